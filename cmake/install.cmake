# The programs, the library in its two forms, and what `cmake --install` puts where.

# What ./dev run needs, and nothing of the tests.
add_custom_target(programs)
foreach(program stretto stretto-pull)
  if(TARGET ${program})
    add_dependencies(programs ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

# Man pages and completion are committed; this makes them again after a row or stretto.h changed.
if(TARGET stretto)
  add_custom_target(man COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/make_man.py $<TARGET_FILE:stretto>
    DEPENDS stretto USES_TERMINAL VERBATIM)
endif()

if(STRETTO_SANITIZE OR STRETTO_FUZZ)
  return()       # instrumented objects are for tests only
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
add_custom_target(install_files DEPENDS programs stretto_shared stretto_static)

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
install(FILES include/stretto/stretto.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/stretto)
install(FILES ${CMAKE_BINARY_DIR}/stretto.pc DESTINATION ${pkgconfig_dir})
install(FILES ${CMAKE_BINARY_DIR}/strettoConfig.cmake ${CMAKE_BINARY_DIR}/strettoConfigVersion.cmake
  DESTINATION ${package_dir})
file(GLOB man1 CONFIGURE_DEPENDS man/*.1)
file(GLOB man3 CONFIGURE_DEPENDS man/*.3)
install(FILES ${man1} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${man3} DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
install(FILES man/stretto.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
  RENAME stretto OPTIONAL)
install(FILES man/stretto.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions RENAME _stretto OPTIONAL)
install(FILES man/stretto.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d OPTIONAL)
