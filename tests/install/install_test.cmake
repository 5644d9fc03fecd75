# Installs the build into `work`, then builds and runs the outside project against it by
# find_package and by pkg-config, and against the sources by add_subdirectory.
set(prefix ${work}/prefix)
set(outside ${CMAKE_CURRENT_LIST_DIR}/outside)
set(boost)
if(boost_include)
  set(boost -D Boost_INCLUDE_DIR=${boost_include} -D Boost_NO_BOOST_CMAKE=ON)
endif()

function(run)
  string(JOIN " " words ${ARGN})
  message(STATUS "${words}")
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(build_and_run way)
  set(folder ${work}/${way})
  file(REMOVE ${folder}/CMakeCache.txt)
  run(${CMAKE_COMMAND} -S ${outside} -B ${folder} -G ${generator} -D WAY=${way}
      -D CMAKE_BUILD_TYPE=${type} -D CMAKE_CXX_COMPILER=${compiler} ${ARGN})
  run(${CMAKE_COMMAND} --build ${folder})
  run(${folder}/outside)
  run(${folder}/outside_c)
endfunction()

file(REMOVE_RECURSE ${prefix})
run(${CMAKE_COMMAND} --install ${build} --prefix ${prefix})
build_and_run(find_package -D CMAKE_PREFIX_PATH=${prefix})

set(ENV{PKG_CONFIG_PATH} ${prefix}/${library_folder}/pkgconfig)
build_and_run(pkg_config)

build_and_run(add_subdirectory -D MEMPOOL_SOURCE=${source} ${boost})

if(EXISTS ${prefix}/bin/mempool)
  run(${prefix}/bin/mempool --version)
endif()
