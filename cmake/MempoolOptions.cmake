# Options, and what every target of ours is compiled with.
option(MEMPOOL_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(MEMPOOL_BUILD_TOOLS "Build the mempool command and the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(MEMPOOL_BUILD_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(MEMPOOL_BUILD_PYTHON "Build the Python package, where nanobind is found" OFF)
option(MEMPOOL_BUILD_FUZZ "Build the fuzz targets (clang only), and nothing that they do not need" OFF)
option(MEMPOOL_WERROR "Treat warnings as errors" OFF)
set(MEMPOOL_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them (address,undefined)")

if(PROJECT_IS_TOP_LEVEL)
  option(BUILD_SHARED_LIBS "Build libmempool as a shared library" ON)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 99)  # of examples and tests; the library is C++
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(MEMPOOL_CCACHE ccache)
if(MEMPOOL_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MEMPOOL_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${MEMPOOL_CCACHE})
endif()

add_library(mempool_flags INTERFACE)
target_compile_options(mempool_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers)
if(MEMPOOL_WERROR)
  target_compile_options(mempool_flags INTERFACE -Werror)
endif()
if(MEMPOOL_SANITIZE)
  target_compile_options(mempool_flags INTERFACE
    -fsanitize=${MEMPOOL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(mempool_flags INTERFACE -fsanitize=${MEMPOOL_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND MEMPOOL_SANITIZE MATCHES "thread")
    target_compile_options(mempool_flags INTERFACE -Wno-tsan)  # Asio's fences, seen by g++ 12
  endif()
endif()
