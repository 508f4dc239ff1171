# What ./dev run needs, and nothing of the tests.
add_custom_target(programs)
foreach(program stretto stretto-pull)
  if(TARGET ${program})
    add_dependencies(programs ${program})
  endif()
endforeach()
