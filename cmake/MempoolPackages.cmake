# The packages that the folders stand on; scripts/setup.sh installs them on Debian 12.
find_package(Threads REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(FlatBuffers 2 REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
# By pkg-config, because its CMake package also demands curl, zlib and civetweb.
pkg_check_modules(prometheus REQUIRED IMPORTED_TARGET prometheus-cpp-core)
# The vendors' libraries, each for a module of its own; without one its module is not built.
if(NOT MEMPOOL_BUILD_FUZZ)
  pkg_check_modules(ibverbs IMPORTED_TARGET libibverbs)
  pkg_check_modules(ucx IMPORTED_TARGET ucx>=1.13)
  set(MEMPOOL_HAS_VERBS ${ibverbs_FOUND})
  set(MEMPOOL_HAS_UCX ${ucx_FOUND})
  if(MEMPOOL_SANITIZE MATCHES "thread")
    set(MEMPOOL_HAS_UCX OFF)  # UCX 1.13 crashes in its first call under that sanitizer
  endif()
endif()
# Header only, from <toml++/toml.h>: its pkg-config file asks for the shared library instead.
find_path(MEMPOOL_TOMLPLUSPLUS_INCLUDE toml++/toml.h REQUIRED)
if(NOT MEMPOOL_BUILD_FUZZ)
  find_package(Boost 1.81 REQUIRED)  # headers: Asio and Beast
endif()
if(MEMPOOL_BUILD_TOOLS AND NOT MEMPOOL_BUILD_FUZZ)
  find_package(CLI11 2 REQUIRED)
endif()
if(MEMPOOL_BUILD_TESTS AND NOT MEMPOOL_BUILD_FUZZ)
  find_package(GTest 1.12 REQUIRED)
  find_package(rapidcheck REQUIRED)
  include(GoogleTest)
endif()
