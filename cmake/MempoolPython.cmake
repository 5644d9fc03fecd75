# The interpreter and nanobind that the Python package is built with: those of pip's build, or those
# that scripts/setup.sh puts into build/venv.
set(MEMPOOL_HAS_PYTHON OFF)
if(NOT MEMPOOL_BUILD_PYTHON)
  return()
endif()

set(venv_python ${PROJECT_SOURCE_DIR}/build/venv/bin/python)
if(NOT SKBUILD AND NOT Python_EXECUTABLE AND EXISTS ${venv_python})
  set(Python_EXECUTABLE ${venv_python})
endif()
find_package(Python 3.10 COMPONENTS Interpreter Development.Module QUIET)
if(Python_FOUND)
  execute_process(COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir
    OUTPUT_VARIABLE nanobind_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_package(nanobind 3.1 CONFIG QUIET)
endif()
if(nanobind_FOUND)
  set(MEMPOOL_HAS_PYTHON ON)
  message(STATUS "Python package: for ${Python_EXECUTABLE}, by nanobind ${nanobind_VERSION}")
elseif(SKBUILD)
  message(FATAL_ERROR "The Python package needs Python's headers and nanobind: install python3-dev")
else()
  message(STATUS "Python package: left out, for there is no nanobind in build/venv; "
                 "scripts/setup.sh puts it there")
endif()
