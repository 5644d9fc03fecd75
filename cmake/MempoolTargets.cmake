# The shapes of our targets: one library a folder, whose link list is the only way down.

# mempool_library(NAME SOURCES... DEPENDS... PRIVATE_DEPENDS...)
function(mempool_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_include_directories(${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  target_link_libraries(${name} PUBLIC ${arg_DEPENDS} PRIVATE mempool_flags ${arg_PRIVATE_DEPENDS})
endfunction()
