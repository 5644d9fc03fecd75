# The shapes of our targets: one library a folder, whose link list is the only way down.

# mempool_library(NAME SOURCES... DEPENDS... PRIVATE_DEPENDS...)
function(mempool_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(${name} PUBLIC ${arg_DEPENDS} PRIVATE mempool_flags ${arg_PRIVATE_DEPENDS})
  set_property(GLOBAL APPEND PROPERTY MEMPOOL_FOLDERS ${name})
  set_property(GLOBAL APPEND PROPERTY MEMPOOL_PACKAGES ${arg_DEPENDS} ${arg_PRIVATE_DEPENDS})
endfunction()

# Where modules lie in the build, as they do beside an installed bin/.
set(MEMPOOL_MODULES_FOLDER ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR}/mempool)
add_custom_target(mempool_modules)

# mempool_module(NAME SOURCES... DEPENDS... [TEST_FOLDER FOLDER])
# A transport that is loaded at run time, mempool_transport_NAME.so: all that it needs of mempool is
# inside, and its entry point alone is seen from outside. One for tests is made in FOLDER, is not
# installed, and is the target FOLDER_transport_NAME.
function(mempool_module name)
  cmake_parse_arguments(arg "" "TEST_FOLDER" "SOURCES;DEPENDS" ${ARGN})
  set(target mempool_transport_${name})
  set(folder ${MEMPOOL_MODULES_FOLDER})
  if(arg_TEST_FOLDER)
    set(target ${arg_TEST_FOLDER}_transport_${name})
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/${arg_TEST_FOLDER})
  endif()
  add_library(${target} MODULE ${arg_SOURCES})
  target_link_libraries(${target} PRIVATE mempool_transport mempool_flags fmt::fmt ${arg_DEPENDS})
  target_link_options(${target} PRIVATE
    -Wl,--exclude-libs,ALL
    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/transport_module.map)
  if(NOT MEMPOOL_SANITIZE)  # a sanitizer's own symbols come with the program
    target_link_options(${target} PRIVATE -Wl,-z,defs)
  endif()
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME mempool_transport_${name} LIBRARY_OUTPUT_DIRECTORY ${folder}
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/transport_module.map)
  if(NOT arg_TEST_FOLDER)
    add_dependencies(mempool_modules ${target})
    install(TARGETS ${target} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/mempool)
    set_property(GLOBAL APPEND PROPERTY MEMPOOL_MODULES ${name})
  endif()
endfunction()

# mempool_schema(NAME SCHEMA)
# Generate the C++ of a FlatBuffers schema as an interface target. agent/wire.fbs is included as
# "agent/wire_generated.h".
function(mempool_schema name schema)
  cmake_path(ABSOLUTE_PATH schema NORMALIZE)
  cmake_path(GET schema STEM stem)
  cmake_path(GET schema PARENT_PATH folder)
  file(RELATIVE_PATH folder ${PROJECT_SOURCE_DIR} ${folder})
  set(include ${PROJECT_BINARY_DIR}/generated)
  set(header ${include}/${folder}/${stem}_generated.h)
  add_custom_command(OUTPUT ${header}
    COMMAND flatbuffers::flatc --cpp --cpp-std c++17 --scoped-enums -o ${include}/${folder}
            ${schema}
    DEPENDS ${schema} VERBATIM)
  add_library(${name} INTERFACE)
  target_sources(${name} INTERFACE $<BUILD_INTERFACE:${header}>)
  target_include_directories(${name} SYSTEM INTERFACE $<BUILD_INTERFACE:${include}>)
  add_custom_target(${name}_header DEPENDS ${header})
  add_dependencies(${name} ${name}_header)
endfunction()

# mempool_test(NAME SOURCES... DEPENDS... LABELS... [TIMEOUT SECONDS] [SERIAL])
# One GoogleTest binary; each of its cases becomes a ctest of its own, which finds the build's
# modules and with SERIAL has the machine for itself. The target tests_LABEL builds the binaries that have a label.
function(mempool_test name)
  cmake_parse_arguments(arg "SERIAL" "TIMEOUT" "SOURCES;DEPENDS;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE
    ${arg_DEPENDS} mempool_flags rapidcheck rapidcheck_gtest GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_LIST ${name}_cases
    PROPERTIES TIMEOUT ${arg_TIMEOUT} RUN_SERIAL ${arg_SERIAL}
      ENVIRONMENT MEMPOOL_MODULE_PATH=${MEMPOOL_MODULES_FOLDER})
  # gtest_discover_tests() loses all but the first label of a list.
  set(labels_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_labels.cmake)
  file(CONFIGURE OUTPUT ${labels_file} @ONLY CONTENT [[
foreach(case IN LISTS @name@_cases)
  set_tests_properties("${case}" PROPERTIES LABELS "@arg_LABELS@")
endforeach()
]])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${labels_file})
  foreach(label IN LISTS arg_LABELS)
    if(NOT TARGET tests_${label})
      add_custom_target(tests_${label})
    endif()
    add_dependencies(tests_${label} ${name})
  endforeach()
endfunction()
