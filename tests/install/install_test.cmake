# Installs the build into `work`, looks at it, then builds and runs the outside project against it by
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

# Fail when what the command prints matches the words.
function(expect_not words)
  execute_process(COMMAND ${ARGN} OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY)
  if(output MATCHES "${words}")
    message(FATAL_ERROR "${ARGN} says '${CMAKE_MATCH_0}'")
  endif()
endfunction()

# The vendors' libraries are the modules' alone, and of a module only its entry point is seen.
function(look_at_files)
  file(GLOB objects ${prefix}/${library_folder}/libmempool.so ${prefix}/bin/mempool)
  foreach(object IN LISTS objects)
    expect_not("libibverbs|librdmacm|libuc[pst]" ${readelf} -d ${object})
  endforeach()
  foreach(module IN LISTS modules)
    set(file ${prefix}/${library_folder}/mempool/mempool_transport_${module}.so)
    execute_process(COMMAND ${nm} -D --defined-only ${file}
                    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
    if(NOT symbols MATCHES "^[0-9a-f]+ T mempool_transport_module\n$")
      message(FATAL_ERROR "${file} exports other than its entry point:\n${symbols}")
    endif()
  endforeach()
endfunction()

function(build_and_run way)
  set(folder ${work}/${way})
  file(REMOVE ${folder}/CMakeCache.txt)
  run(${CMAKE_COMMAND} -S ${outside} -B ${folder} -G ${generator} -D WAY=${way}
      -D CMAKE_BUILD_TYPE=${type} -D CMAKE_CXX_COMPILER=${compiler} ${ARGN})
  run(${CMAKE_COMMAND} --build ${folder})
  run(${folder}/outside ${found_modules})
  run(${folder}/outside_c)
endfunction()

unset(ENV{MEMPOOL_MODULE_PATH})
string(REPLACE "," ";" modules "${modules}")
file(REMOVE_RECURSE ${prefix})
run(${CMAKE_COMMAND} --install ${build} --prefix ${prefix})
look_at_files()
set(found_modules ${modules})
build_and_run(find_package -D CMAKE_PREFIX_PATH=${prefix})

set(ENV{PKG_CONFIG_PATH} ${prefix}/${library_folder}/pkgconfig)
build_and_run(pkg_config)

set(found_modules)  # a program of its own build looks elsewhere
build_and_run(add_subdirectory -D MEMPOOL_SOURCE=${source} ${boost})

if(EXISTS ${prefix}/bin/mempool)
  string(REPLACE ";" "|" module_words "${modules}")
  run(${prefix}/bin/mempool --version)
  expect_not("no mempool_transport_(${module_words})\\.so"
             ${prefix}/bin/mempool doctor --json --set=content.layers=1 --set=pool.blocks=16)
endif()
