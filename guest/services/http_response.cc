#include "guest/services/http_response.h"

#include "guest/services/config.h"
#include "guest/services/text.h"

namespace synfluid::guest {
namespace {

std::string_view reason(uint16_t status) {
  switch (status) {
    case 200:
      return "OK";
    case 405:
      return "Method Not Allowed";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Bad Request";
  }
}

}  // namespace

ResponseWriter::ResponseWriter(const abi::Card& card) : card_(card) {}

/// Lines "body ..." of the configuration, each a line of the page.
void ResponseWriter::configured_body(TextWriter& out) const {
  ConfigReader config(card_);
  for (ConfigLine line; config.next(line);)
    if (line.key == "body") out.text(line.value).text("\n");
}

size_t ResponseWriter::page(const HttpResponse& response, const net::Endpoint& client,
                            const net::Endpoint& server) {
  TextWriter out(page_);
  if (response.status != 200) {
    out.number(response.status).text(" ").text(reason(response.status)).text("\n");
    return out.size();
  }
  out.text("service: responder\ndomain: ").number(card_.fixed.domid);
  out.text("\ngeneration: ").number(card_.fixed.generation);
  out.text("\nflow: ").endpoint(client).text(" > ").endpoint(server);
  out.text("\nsince_syn_us: ").number(response.since_syn_us);
  out.text("\nrequest: ").number(response.number).text("\n");
  configured_body(out);
  return out.size();
}

size_t ResponseWriter::head(const HttpResponse& response, size_t content_length) {
  TextWriter out(head_);
  out.text("HTTP/1.1 ").number(response.status).text(" ").text(reason(response.status));
  out.text("\r\nServer: synfluid\r\nContent-Type: ");
  out.text(response.is_pattern ? "application/octet-stream" : "text/plain; charset=utf-8");
  out.text("\r\nCache-Control: no-store\r\nContent-Length: ").number(content_length);
  if (response.status == 405) out.text("\r\nAllow: GET, HEAD");
  out.text(response.keep_alive ? "\r\nConnection: keep-alive\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
  return out.size();
}

HttpResponse ResponseWriter::answer(const HttpRequest& request, uint64_t start, uint32_t number,
                                    uint64_t since_syn_us, const net::Endpoint& client,
                                    const net::Endpoint& server) {
  HttpResponse out;
  out.start = start;
  out.number = number;
  out.since_syn_us = since_syn_us;
  out.keep_alive = request.keep_alive;
  out.is_head = request.method == HttpMethod::kHead && request.error == 0;
  out.status = request.error != 0 ? request.error : request.method == HttpMethod::kOther ? 405 : 200;
  out.is_pattern = out.status == 200 && request.wants_bytes;
  out.pattern_bytes = request.bytes;
  const uint64_t content = out.is_pattern ? out.pattern_bytes : page(out, client, server);
  out.head_bytes = head(out, content);
  out.body_bytes = out.is_head ? 0 : content;
  return out;
}

void ResponseWriter::write(const HttpResponse& response, const net::Endpoint& client,
                           const net::Endpoint& server, uint64_t offset, std::span<std::byte> into) {
  size_t page_bytes = 0;
  if (!response.is_pattern) page_bytes = page(response, client, server);
  if (offset < response.head_bytes) head(response, response.is_pattern ? response.pattern_bytes : page_bytes);
  for (std::byte& out : into) {
    const uint64_t at = offset++;
    char c;
    if (at < response.head_bytes)
      c = head_[at];
    else if (response.is_pattern)
      c = pattern_byte(at - response.head_bytes);
    else
      c = page_[at - response.head_bytes];
    out = static_cast<std::byte>(c);
  }
}

}  // namespace synfluid::guest
