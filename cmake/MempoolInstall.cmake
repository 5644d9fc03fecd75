# The library that others link, made of the folders' objects, and what finds it once installed.
include(CMakePackageConfigHelpers)

get_property(folders GLOBAL PROPERTY MEMPOOL_FOLDERS)
get_property(packages GLOBAL PROPERTY MEMPOOL_PACKAGES)
list(REMOVE_DUPLICATES packages)
list(FILTER packages EXCLUDE REGEX "^mempool_")

add_library(mempool)
add_library(mempool::mempool ALIAS mempool)
foreach(folder IN LISTS folders)
  target_sources(mempool PRIVATE $<TARGET_OBJECTS:${folder}>)
endforeach()
target_include_directories(mempool INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(mempool INTERFACE cxx_std_20)
target_link_libraries(mempool PRIVATE ${packages} $<BUILD_INTERFACE:mempool_flags>)
set_target_properties(mempool PROPERTIES
  LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/mempool)
install(TARGETS mempool EXPORT mempoolTargets)
install(EXPORT mempoolTargets NAMESPACE mempool:: DESTINATION ${package_folder})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/mempool TYPE INCLUDE)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/mempoolConfig.cmake.in
  mempoolConfig.cmake INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(mempoolConfigVersion.cmake COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH prefix_from_pkgconfig /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${PROJECT_SOURCE_DIR}/cmake/mempool.pc.in mempool.pc @ONLY)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/mempoolConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/mempoolConfigVersion.cmake
  DESTINATION ${package_folder})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/mempool.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
