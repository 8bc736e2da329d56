// What an operator may name as a foreign image, and what is said of everything else. Needs no Xen.
#include "spawner/xen/foreign_image.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/images.h"

namespace synfluid::spawner::xen {
namespace {

namespace fs = std::filesystem;

class ForeignImageTest : public ::testing::Test {
 protected:
  ForeignImageTest() {
    std::string pattern = fs::temp_directory_path() / "backend-foreign-image-XXXXXX";
    directory = mkdtemp(pattern.data());
  }
  ~ForeignImageTest() override { fs::remove_all(directory); }

  std::string file(const std::string& name, std::string_view content) const {
    const fs::path path = directory / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  static std::string ours() {
    const auto image = guest::xen_image();
    return {reinterpret_cast<const char*>(image.data()), image.size()};
  }
  static void expect_error(const ImageSpec& spec, std::string_view words) {
    const auto image = read_foreign_image(spec);
    ASSERT_FALSE(image) << words;
    EXPECT_NE(image.error().text().find(words), std::string::npos) << image.error().text();
    EXPECT_EQ(image.error().text().find('\n'), std::string::npos) << image.error().text();
  }
  static ImageSpec spec_of(const std::string& path) {
    return {.service = "web", .image = path, .memory_bytes = 0, .config = {}};
  }

  fs::path directory;
};

TEST_F(ForeignImageTest, AXenPvKernelIsReadWithItsRamdiskAndCommandLine) {
  ImageSpec spec = spec_of(file("kernel", ours()));
  spec.config = {{"ramdisk", file("ramdisk", "content")}, {"cmdline", "quiet ip=10.0.0.1"}};
  const auto image = read_foreign_image(spec);
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ(image->kernel.size(), ours().size());
  EXPECT_EQ(image->ramdisk.size(), 7u);
  EXPECT_EQ(image->command_line, "quiet ip=10.0.0.1");
  EXPECT_EQ(image->memory_bytes, kUsualForeignBytes);
}

TEST_F(ForeignImageTest, WhatCannotBeReadIsNamed) {
  expect_error(spec_of(directory / "nowhere"), "nowhere: No such file");
  expect_error(spec_of(directory), "is not a file");
  ASSERT_EQ(mkfifo((directory / "pipe").c_str(), 0600), 0);
  expect_error(spec_of(directory / "pipe"), "is not a file");
  expect_error(spec_of(file("empty", "")), "is empty");
}

TEST_F(ForeignImageTest, WhatIsNoKernelIsToldWhatItIs) {
  expect_error(spec_of(file("text", "hello, world\n")), "is neither an ELF file nor a Linux bzImage");
  expect_error(spec_of(file("elf32", std::string("\x7f"
                                                 "ELF\x01\x01\x01",
                                                 7) +
                                         std::string(100, '\0'))),
               "is an ELF file, but not for 64-bit x86");
  expect_error(spec_of("/proc/self/exe"), "");
  expect_error(spec_of(fs::read_symlink("/proc/self/exe")), "is not a Xen PV kernel (");
  expect_error(spec_of(file("gz", "\x1f\x8bnothing")), "is not a Xen PV kernel (");
}

TEST_F(ForeignImageTest, EveryPrefixOfAKernelIsRefusedOrReadWithoutHarm) {
  const std::string whole = ours();
  for (size_t bytes = 1; bytes < whole.size(); bytes += 997) {
    const std::span prefix(reinterpret_cast<const std::byte*>(whole.data()), bytes);
    const auto kernel = unpack_kernel(prefix, "cut");
    EXPECT_TRUE(kernel || kernel.error().text().starts_with("cut: ")) << kernel.error().text();
  }
}

TEST_F(ForeignImageTest, TooLittleMemoryIsSaidBeforeAGuestIsMade) {
  ImageSpec spec = spec_of(file("kernel", ours()));
  spec.memory_bytes = 4 << 20;
  expect_error(spec, "memory of 4096 KiB is too little; it needs 8 MiB or more");
  spec.memory_bytes = 8 << 20;
  spec.config = {{"ramdisk", file("ramdisk", std::string(9 << 20, 'x'))}};
  expect_error(spec, "kernel and ramdisk have 9 MiB, the guest has 8");
}

TEST_F(ForeignImageTest, OtherKeysAndMissingRamdisksAreRefused) {
  ImageSpec spec = spec_of(file("kernel", ours()));
  spec.config = {{"block_hosts", "a"}};
  expect_error(spec,
               "config key 'block_hosts' is not known to such an image; allowed: cmdline, control_ring, "
               "ramdisk");
  spec.config = {{"ramdisk", directory / "nowhere"}};
  expect_error(spec, "ramdisk: ");
  spec.config = {{"control_ring", "maybe"}};
  expect_error(spec, "control_ring is 'maybe'; allowed: on, off");
}

TEST_F(ForeignImageTest, AControlRingIsOfferedToThoseThatHaveUseForIt) {
  ImageSpec spec = spec_of(file("kernel", ours()));
  EXPECT_FALSE(read_foreign_image(spec)->offers_control_ring);
  spec.config = {{"control_ring", "on"}};
  EXPECT_TRUE(read_foreign_image(spec)->offers_control_ring);
}

}  // namespace
}  // namespace synfluid::spawner::xen
