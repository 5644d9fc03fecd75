# The packages that the folders stand on; scripts/setup.sh installs them on Debian 12.
find_package(Threads REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(spdlog 1.10 REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
if(NOT MEMPOOL_BUILD_FUZZ)
  find_package(Boost 1.81 REQUIRED)  # headers: Asio and Beast
endif()
