#include "spawner/xen/xen_control_store.h"

#include <cerrno>
#include <cstdlib>
#include <span>
#include <string_view>

#include <fmt/format.h>

extern "C" {
#include <xenstore.h>
}

namespace synfluid::spawner::xen {

namespace {

/// What libxenstore allocates is freed with free().
struct Free {
  void operator()(void* p) const noexcept { std::free(p); }
};
template <class T>
using Malloced = std::unique_ptr<T, Free>;

struct CloseStore {
  void operator()(xs_handle* handle) const noexcept { xs_close(handle); }
};

Error failed(std::string_view what, std::string_view path) {
  return Error::from_errno(errno, fmt::format("store: {} {}", what, path));
}

unsigned int flags_of(StoreAccess access) {
  switch (access) {
    case StoreAccess::kNone:
      return XS_PERM_NONE;
    case StoreAccess::kRead:
      return XS_PERM_READ;
    case StoreAccess::kWrite:
      return XS_PERM_WRITE;
    case StoreAccess::kReadWrite:
      return XS_PERM_READ | XS_PERM_WRITE;
  }
  return XS_PERM_NONE;
}

/// The nodes under one transaction, or XBT_NULL for none.
class View {
 public:
  View(xs_handle* handle, xs_transaction_t transaction) : handle_(handle), transaction_(transaction) {}

  Result<std::string> read(const std::string& path) const {
    unsigned int length = 0;
    const Malloced<void> value(xs_read(handle_, transaction_, path.c_str(), &length));
    if (!value) return failed("read", path);
    return std::string(static_cast<const char*>(value.get()), length);
  }

  Status write(const std::string& path, const std::string& value) const {
    const auto length = static_cast<unsigned int>(value.size());
    if (!xs_write(handle_, transaction_, path.c_str(), value.data(), length)) return failed("write", path);
    return {};
  }

  Status make_directory(const std::string& path) const {
    if (!xs_mkdir(handle_, transaction_, path.c_str()) && errno != EEXIST)
      return failed("make directory", path);
    return {};
  }

  Status remove(const std::string& path) const {
    if (!xs_rm(handle_, transaction_, path.c_str()) && errno != ENOENT) return failed("remove", path);
    return {};
  }

  Result<std::vector<std::string>> list(const std::string& path) const {
    unsigned int count = 0;
    const Malloced<char*> names(xs_directory(handle_, transaction_, path.c_str(), &count));
    if (!names) return failed("list", path);
    const std::span all(names.get(), count);
    return std::vector<std::string>(all.begin(), all.end());
  }

  Status set_permissions(const std::string& path, const StorePermissions& permissions) const {
    std::vector<xs_permissions> list{{permissions.owner.value(), flags_of(permissions.others)}};
    for (const StoreGrant& grant : permissions.grants)
      list.push_back({grant.domid.value(), flags_of(grant.access)});
    const auto count = static_cast<unsigned int>(list.size());
    if (!xs_set_permissions(handle_, transaction_, path.c_str(), list.data(), count))
      return failed("set permissions of", path);
    return {};
  }

 private:
  xs_handle* handle_;
  xs_transaction_t transaction_;
};

/// What a store and a transaction in it have in common: StoreView, of whatever interface, by a View.
template <class Interface>
class ByView : public Interface {
 public:
  Result<std::string> read(const std::string& path) override { return view_.read(path); }
  Status write(const std::string& path, const std::string& value) override {
    return view_.write(path, value);
  }
  Status make_directory(const std::string& path) override { return view_.make_directory(path); }
  Status remove(const std::string& path) override { return view_.remove(path); }
  Result<std::vector<std::string>> list(const std::string& path) override { return view_.list(path); }
  Status set_permissions(const std::string& path, const StorePermissions& permissions) override {
    return view_.set_permissions(path, permissions);
  }

 protected:
  explicit ByView(View view) : view_(view) {}

 private:
  View view_;
};

class TransactionView final : public ByView<StoreView> {
 public:
  explicit TransactionView(View view) : ByView(view) {}
};

class XenControlStore final : public ByView<ControlStore> {
 public:
  explicit XenControlStore(std::unique_ptr<xs_handle, CloseStore> handle)
      : ByView(View(handle.get(), XBT_NULL)), handle_(std::move(handle)) {}

  Status transact(const std::function<Status(StoreView&)>& body) override {
    for (int attempt = 0; attempt < kStoreAttempts; ++attempt) {
      const Status done = transact_once(body);
      if (done || done.error().code() != ErrorCode::kConflict) return done;
    }
    return Error(
        ErrorCode::kConflict,
        fmt::format("store: a transaction was overtaken by others {} times in a row", kStoreAttempts));
  }

  Status watch(const std::string& path, const std::string& token) override {
    if (!xs_watch(handle_.get(), path.c_str(), token.c_str())) return failed("watch", path);
    return {};
  }
  Status unwatch(const std::string& path, const std::string& token) override {
    if (!xs_unwatch(handle_.get(), path.c_str(), token.c_str()) && errno != ENOENT)
      return failed("end the watch of", path);
    return {};
  }
  int event_fd() const override { return xs_fileno(handle_.get()); }
  std::optional<StoreEvent> next_event() override {
    const Malloced<char*> event(xs_check_watch(handle_.get()));
    if (!event) return std::nullopt;
    const std::span fields(event.get(), XS_WATCH_TOKEN + 1);
    return StoreEvent{.path = fields[XS_WATCH_PATH], .token = fields[XS_WATCH_TOKEN]};
  }

  Status introduce(DomId domid, uint64_t ring_frame, EventPort port) override {
    if (!xs_introduce_domain(handle_.get(), domid.value(), ring_frame, port.value()))
      return failed("introduce domain", std::to_string(domid.value()));
    return {};
  }
  Status release(DomId domid) override {
    if (!xs_release_domain(handle_.get(), domid.value()) && errno != ENOENT)
      return failed("release domain", std::to_string(domid.value()));
    return {};
  }

 private:
  Status transact_once(const std::function<Status(StoreView&)>& body) {
    const xs_transaction_t transaction = xs_transaction_start(handle_.get());
    if (transaction == XBT_NULL) return failed("start of a transaction", "");
    TransactionView view{View(handle_.get(), transaction)};
    const Status done = body(view);
    if (!xs_transaction_end(handle_.get(), transaction, !done) && done)
      return failed("end of a transaction", "");
    return done;
  }

  std::unique_ptr<xs_handle, CloseStore> handle_;
};

}  // namespace

Result<std::unique_ptr<ControlStore>> open_control_store() {
  // Without the socket of a store that runs here, libxenstore would wait for one behind the kernel, for ever.
  std::unique_ptr<xs_handle, CloseStore> handle(xs_open(XS_OPEN_SOCKETONLY));
  if (!handle) {
    return Error(ErrorCode::kUnavailable,
                 fmt::format("no XenStore answers ({}); is xenstored running?",
                             Error::from_errno(errno, "xs_open").text()),
                 errno);
  }
  return std::unique_ptr<ControlStore>(std::make_unique<XenControlStore>(std::move(handle)));
}

}  // namespace synfluid::spawner::xen
