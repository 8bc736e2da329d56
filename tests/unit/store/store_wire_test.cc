#include <array>
#include <cerrno>
#include <iterator>

#include <gtest/gtest.h>

#include "spawner/store/wire.h"

extern "C" {
#include <xen/io/xs_wire.h>
}

namespace synfluid::spawner::store {
namespace {

TEST(Wire, TheErrorsAreThoseOfTheProtocolHeader) {
  EXPECT_EQ(std::size(xsd_errors), kFaults - 1);
  for (const auto& error : xsd_errors) {
    const Fault fault = fault_from_errno(error.errnum);
    EXPECT_EQ(to_string(fault), error.errstring);
    EXPECT_EQ(errno_of(fault), error.errnum);
  }
  EXPECT_EQ(fault_from_errno(ECHILD), Fault::kEinval);
}

TEST(Wire, AHeaderComesBackAsItWent) {
  const Header header{.type = MessageType::kWrite, .request_id = 7, .transaction_id = 9, .length = 4096};
  std::array<char, kHeaderBytes> bytes;
  write_header(header, bytes);
  EXPECT_EQ(parse_header(bytes), header);
  EXPECT_EQ(bytes[0], 11);
}

TEST(Wire, FieldsEndAtTheLastNul) {
  Fields fields(std::span("a\0\0rest", 7));
  EXPECT_EQ(fields.next(), "a");
  EXPECT_EQ(fields.next(), "");
  EXPECT_EQ(fields.next(), std::nullopt);
  EXPECT_EQ(fields.rest(), "rest");
  EXPECT_EQ(only_field(std::span("x\0", 2)), "x");
  EXPECT_EQ(only_field(std::span("x\0y", 3)), std::nullopt);
  EXPECT_EQ(only_field(std::span("x", 1)), std::nullopt);
  EXPECT_EQ(only_field({}), std::nullopt);
}

TEST(Wire, PathsHaveTheProtocolsForm) {
  for (const char* path : {"/", "/a", "/local/domain/7", "/a-b_c@d/9"})
    EXPECT_TRUE(is_absolute_path(path)) << path;
  for (const char* path : {"", "a", "//", "/a/", "/a//b", "/a b", "/a\n", "/\xff", "/a.b", "/a+b"})
    EXPECT_FALSE(is_absolute_path(path)) << path;
  EXPECT_TRUE(is_absolute_path("/" + std::string(kMaxAbsolutePath - 1, 'a')));
  EXPECT_FALSE(is_absolute_path("/" + std::string(kMaxAbsolutePath, 'a')));
  EXPECT_TRUE(is_relative_path("device/vif"));
  for (const char* path : {"", "/a", "@a", "a/", "a//b"}) EXPECT_FALSE(is_relative_path(path)) << path;
  EXPECT_FALSE(is_relative_path(std::string(kMaxRelativePath + 1, 'a')));
  for (const char* path : {"@introduceDomain", "@releaseDomain/7"})
    EXPECT_TRUE(is_special_path(path)) << path;
  for (const char* path : {"@", "@/", "@a/", "a"}) EXPECT_FALSE(is_special_path(path)) << path;
}

TEST(Wire, EveryByteIsJudgedAlikeAtEveryPlace) {
  const std::string allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@";
  for (size_t length = 2; length < 40; ++length) {
    for (size_t at = 1; at < length; ++at) {
      for (int byte = 0; byte < 256; ++byte) {
        std::string path = "/" + std::string(length - 1, 'x');
        path[at] = static_cast<char>(byte);
        const bool slash = path[at] == '/' && at > 1 && at + 1 < length;
        const bool expected = slash || allowed.find(path[at]) != std::string::npos;
        ASSERT_EQ(is_absolute_path(path), expected) << length << " " << at << " " << byte;
      }
    }
  }
}

TEST(Wire, PathsAreTakenApart) {
  EXPECT_EQ(parent_of("/a/b"), "/a");
  EXPECT_EQ(parent_of("/a"), "/");
  EXPECT_EQ(parent_of("/"), "/");
  EXPECT_EQ(name_of("/a/b"), "b");
  EXPECT_TRUE(is_at_or_below("/a/b", "/a"));
  EXPECT_TRUE(is_at_or_below("/a", "/a"));
  EXPECT_TRUE(is_at_or_below("/a", "/"));
  EXPECT_FALSE(is_at_or_below("/ab", "/a"));
  EXPECT_FALSE(is_at_or_below("/a", "/a/b"));
}

TEST(Wire, PermissionsAreOneLetterAndADomain) {
  for (const char* text : {"n0", "r1", "w32751", "b65535"}) {
    const auto permission = parse_permission(text);
    ASSERT_TRUE(permission) << text;
    std::string back;
    append_permission(back, *permission);
    EXPECT_EQ(back, text);
  }
  for (const char* text : {"", "r", "x1", "r-1", "r1x", "r65536", "r 1", "1"})
    EXPECT_FALSE(parse_permission(text)) << text;
}

TEST(Wire, EveryTypeHasItsName) {
  EXPECT_EQ(to_string(MessageType::kIsDomainIntroduced), "IS_DOMAIN_INTRODUCED");
  EXPECT_EQ(to_string(MessageType::kDirectoryPart), "DIRECTORY_PART");
  EXPECT_EQ(to_string(static_cast<MessageType>(99)), "?");
}

}  // namespace
}  // namespace synfluid::spawner::store
