// SPDX-License-Identifier: Apache-2.0
// Tests the loading of modules: where they are looked for, what makes one unfit, and that one that
// is fit moves bytes.
#include "transport/transport_module.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/random.h"
#include "tests/transport/module_path.h"
#include "tests/transport/transport_node.h"

namespace mempool {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const fs::path kStandIns = fs::path(MEMPOOL_TEST_MODULES) / "stand_in";
const fs::path kWrong = fs::path(MEMPOOL_TEST_MODULES) / "wrong";

/// A folder that goes with the test. Thread: confined.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(fs::temp_directory_path() / ("mempool-" + std::to_string(random_word()))) {
    fs::create_directories(path_);
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

Status load_error(const fs::path& folder, const std::string& name) {
  const testing::ModulePath path(folder.string());
  return load_transport_module(name).status();
}

TEST(TransportModule, that_is_not_there_is_told_with_the_folder_and_the_mend) {
  const Status status = load_error("/nowhere", "verbs");
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_EQ(status.message(),
            "no mempool_transport_verbs.so in /nowhere; install it, or set MEMPOOL_MODULE_PATH to "
            "its folder");
}

TEST(TransportModule, of_another_version_is_refused_with_both_versions) {
  const Status status = load_error(kWrong, "foreign");
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(StartsWith((kWrong / "mempool_transport_foreign.so").string()),
            HasSubstr("is of version 0.0.9, interface 0, this is "),
            HasSubstr(transport_module_version()), EndsWith("install both from one build")));
}

TEST(TransportModule, without_an_entry_point_is_no_module) {
  const Status status = load_error(kWrong, "empty");
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is no transport module of mempool; "));
}

TEST(TransportModule, that_lacks_a_library_names_it) {
  const Status status = load_error(kWrong, "lacking");
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("mempool_transport_lacking.so cannot be loaded: "),
                    HasSubstr("libmempool_absent_vendor.so"),
                    EndsWith("; install what it lacks, or mempool anew")));
}

TEST(TransportModule, of_another_backend_is_not_taken_for_this_one) {
  const TemporaryFolder folder;
  fs::create_symlink(kStandIns / "mempool_transport_verbs.so",
                     folder.path() / "mempool_transport_ucx.so");
  const Status status = load_error(folder.path(), "ucx");
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_THAT(std::string(status.message()), HasSubstr("holds 'verbs', not 'ucx'; "));
}

TEST(TransportModule, that_is_no_shared_object_is_told_as_the_loader_does) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "mempool_transport_ucx.so") << "not an object";
  const Status status = load_error(folder.path(), "ucx");
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("mempool_transport_ucx.so cannot be loaded"));
}

TEST(TransportModule, is_loaded_once) {
  const testing::ModulePath path(kStandIns.string());
  const auto once = load_transport_module("verbs");
  ASSERT_TRUE(once.ok()) << once.status().to_string();
  EXPECT_EQ(*load_transport_module("verbs"), *once);
  EXPECT_NE(*load_transport_module("ucx"), *once);
}

TEST(TransportModule, moves_bytes_as_what_is_built_in_does) {
  const testing::ModulePath path(kStandIns.string());
  TransportNode source({.transport = "verbs", .incarnation = 1});
  TransportNode target({.transport = "verbs", .incarnation = 2});
  EXPECT_EQ(source.capabilities().name, "verbs");
  EXPECT_TRUE(source.capabilities().rdma);
  const auto endpoint = source.connect(target);
  ASSERT_NE(endpoint, nullptr);
  ASSERT_TRUE(target.transport().open_slot(1, {1, 1}).ok());
  std::memset(source.memory().data(), 0x5a, 4096);
  const RunPair pair = {TransportNode::kRegion, TransportNode::kRegion, 0, 8192, 4096};
  ASSERT_TRUE(endpoint->post({Operation::kWrite, {1, 1}, 7, {&pair, 1}}).ok());
  ASSERT_TRUE(run_until({&source, &target}, [&] { return source.completed(7); }));
  EXPECT_TRUE(source.completion_of(7).ok());
  EXPECT_EQ(target.memory()[8192 + 4095], std::byte{0x5a});
}

// ---- where they are looked for ----

/// Have a library in `folder` load the stand-in for verbs. Empty: it was found.
std::string search_from(const fs::path& folder) {
  fs::create_directories(folder);
  const fs::path finder = folder / "libfinder.so";
  fs::copy_file(fs::path(MEMPOOL_TEST_MODULES) / "module_finder.so", finder);
  void* const object = dlopen(finder.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (object == nullptr) return dlerror();
  const auto find =
      reinterpret_cast<const char* (*)(const char*, std::string&)>(dlsym(object, "find_module"));
  std::string why = "no find_module";
  if (find != nullptr && find("verbs", why) != nullptr) why.clear();
  return why;
}

void put_module(const fs::path& folder) {
  fs::create_directories(folder);
  fs::create_symlink(kStandIns / "mempool_transport_verbs.so",
                     folder / "mempool_transport_verbs.so");
}

TEST(TransportModule, is_found_beside_the_library_that_asks) {
  const testing::ModulePath path(std::nullopt);
  const TemporaryFolder root;
  put_module(root.path() / "python");
  EXPECT_EQ(search_from(root.path() / "python"), "");
}

TEST(TransportModule, is_found_in_the_folder_beside_libmempool) {
  const testing::ModulePath path(std::nullopt);
  const TemporaryFolder root;
  put_module(root.path() / "lib" / "mempool");
  EXPECT_EQ(search_from(root.path() / "lib"), "");
}

TEST(TransportModule, is_found_in_the_library_folder_next_to_the_program) {
  const testing::ModulePath path(std::nullopt);
  const TemporaryFolder root;
  put_module(root.path() / MEMPOOL_TEST_LIBRARY_FOLDER / "mempool");
  EXPECT_EQ(search_from(root.path() / "bin"), "");
}

TEST(TransportModule, is_looked_for_in_the_variables_folder_alone) {
  const TemporaryFolder root;
  const testing::ModulePath path((root.path() / "chosen").string());
  put_module(root.path() / "here");
  const std::string why = search_from(root.path() / "here");
  EXPECT_THAT(why, AllOf(HasSubstr((root.path() / "chosen").string()),
                         Not(HasSubstr((root.path() / "here").string()))));
}

}  // namespace
}  // namespace mempool
