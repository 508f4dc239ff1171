# The programs, the library in its two forms, and what `cmake --install` puts where.

# What ./dev run needs, and nothing of the tests.
add_custom_target(programs)
foreach(program stretto stretto-pull stretto-serve)
  if(TARGET ${program})
    add_dependencies(programs ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

if(STRETTO_SANITIZE OR STRETTO_FUZZ)
  return()       # instrumented objects are for tests only
endif()

# ---- man pages and completion, made from the rows of the built command and from stretto.h ------
set(man_dir ${CMAKE_BINARY_DIR}/man)
find_program(STRETTO_PYTHON python3)
if(TARGET stretto AND STRETTO_PYTHON AND NOT CMAKE_CROSSCOMPILING)
  add_custom_command(OUTPUT ${man_dir}/stretto.1
    COMMAND ${STRETTO_PYTHON} ${CMAKE_SOURCE_DIR}/tools/make_man.py $<TARGET_FILE:stretto> ${man_dir}
    DEPENDS stretto tools/make_man.py tools/completion.py include/stretto/stretto.h
      include/stretto/compress.h include/stretto/train.h tests/api/example.c
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR} COMMENT "Making man pages and completion" VERBATIM)
  add_custom_target(man ALL DEPENDS ${man_dir}/stretto.1)
else()
  add_custom_target(man)
  message(STATUS "without python3, and in cross builds, there are no man pages and no completion")
endif()

# ---- shared: only STRETTO_API symbols are visible ----------------------------------------------
# While the major version is 0 the SONAME carries the minor one: 0.1 and 0.2 are not compatible.
set(library_parts $<TARGET_OBJECTS:stretto_objects> $<TARGET_OBJECTS:stretto_kernels>)
add_library(stretto_shared SHARED ${library_parts})
set_target_properties(stretto_shared PROPERTIES OUTPUT_NAME stretto VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR} LINKER_LANGUAGE C)
target_link_libraries(stretto_shared PRIVATE stretto_flags ${stretto_deps})
target_link_options(stretto_shared PRIVATE -Wl,--no-undefined -Wl,--as-needed -Wl,-z,relro,-z,now)

# ---- static: one object whose hidden symbols are made local, so no internal name leaks ---------
find_program(STRETTO_OBJCOPY NAMES ${CMAKE_OBJCOPY} objcopy REQUIRED)
set(static_library ${CMAKE_BINARY_DIR}/libstretto.a)
set(static_object ${CMAKE_BINARY_DIR}/libstretto.o)
add_custom_command(OUTPUT ${static_library}
  COMMAND ${CMAKE_LINKER} -r -o ${static_object} ${library_parts}
  COMMAND ${STRETTO_OBJCOPY} --localize-hidden ${static_object}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${static_library}
  COMMAND ${CMAKE_AR} rcs ${static_library} ${static_object}
  COMMAND ${CMAKE_COMMAND} -E rm -f ${static_object}
  DEPENDS stretto_objects stretto_kernels ${library_parts}
  COMMENT "Linking C static library libstretto.a, hidden symbols made local"
  COMMAND_EXPAND_LISTS VERBATIM)
add_custom_target(stretto_static ALL DEPENDS ${static_library})
add_custom_target(install_files DEPENDS programs man stretto_shared stretto_static)

# ---- pkg-config and CMake package: both find the prefix from where they lie --------------------
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/stretto)
file(RELATIVE_PATH pkgconfig_to_prefix /x/${pkgconfig_dir} /x)
file(RELATIVE_PATH package_to_prefix /x/${package_dir} /x)
configure_file(cmake/stretto.pc.in ${CMAKE_BINARY_DIR}/stretto.pc @ONLY)
configure_file(cmake/strettoConfig.cmake.in ${CMAKE_BINARY_DIR}/strettoConfig.cmake @ONLY)
include(CMakePackageConfigHelpers)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/strettoConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)

install(TARGETS stretto_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${static_library} DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/stretto/stretto.h include/stretto/compress.h include/stretto/train.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/stretto)
install(FILES ${CMAKE_BINARY_DIR}/stretto.pc DESTINATION ${pkgconfig_dir})
install(FILES ${CMAKE_BINARY_DIR}/strettoConfig.cmake ${CMAKE_BINARY_DIR}/strettoConfigVersion.cmake
  DESTINATION ${package_dir})
foreach(section 1 3)
  install(DIRECTORY ${man_dir}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section}
    FILES_MATCHING PATTERN "*.${section}")
endforeach()
install(FILES ${man_dir}/stretto.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
  RENAME stretto OPTIONAL)
install(FILES ${man_dir}/stretto.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _stretto
  OPTIONAL)
install(FILES ${man_dir}/stretto.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d OPTIONAL)
