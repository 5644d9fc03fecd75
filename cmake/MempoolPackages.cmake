# The packages that the folders stand on; scripts/setup.sh installs them on Debian 12.
set(missing)

# mempool_need(PACKAGE ARGUMENTS...): find_package(), but all that are missing are told at once.
macro(mempool_need package)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    list(APPEND missing ${package})
  endif()
endmacro()

# mempool_need_module(PREFIX MODULE): the same by pkg-config.
macro(mempool_need_module prefix module)
  if(PkgConfig_FOUND)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${module})
  endif()
  if(NOT ${prefix}_FOUND)
    list(APPEND missing ${module})
  endif()
endmacro()

# Where scripts/setup.sh unpacks Boost beside another one that is installed.
set(unpacked_boost ${PROJECT_SOURCE_DIR}/build/deps/usr/include)
if(NOT Boost_INCLUDE_DIR AND EXISTS ${unpacked_boost}/boost)
  set(Boost_NO_BOOST_CMAKE ON)
  set(Boost_INCLUDE_DIR ${unpacked_boost})
endif()

mempool_need(Threads)
mempool_need(fmt 9)
mempool_need(spdlog 1.10)
mempool_need(nlohmann_json 3.11)
mempool_need(FlatBuffers 2)
mempool_need(OpenSSL 3)
mempool_need(PkgConfig)
mempool_need_module(xxhash libxxhash)
# By pkg-config, because its CMake package also demands curl, zlib and civetweb.
mempool_need_module(prometheus prometheus-cpp-core)
# Header only, from <toml++/toml.h>: its pkg-config file asks for the shared library instead.
find_path(MEMPOOL_TOMLPLUSPLUS_INCLUDE toml++/toml.h)
if(NOT MEMPOOL_TOMLPLUSPLUS_INCLUDE)
  list(APPEND missing toml++)
endif()
if(NOT MEMPOOL_BUILD_FUZZ)
  mempool_need(Boost 1.81)  # headers: Asio and Beast
endif()
if(MEMPOOL_BUILD_TOOLS AND NOT MEMPOOL_BUILD_FUZZ)
  mempool_need(CLI11 2)
endif()
if(MEMPOOL_BUILD_TESTS AND NOT MEMPOOL_BUILD_FUZZ)
  mempool_need(GTest 1.12)
  mempool_need(rapidcheck)
  include(GoogleTest)
endif()
if(missing)
  list(JOIN missing ", " missing)
  message(FATAL_ERROR "mempool is built with packages that are missing here (${missing}): "
                      "run scripts/setup.sh, which installs them on Debian 12")
endif()

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
