# Man pages, completion and the decoding strategies in docs agree with the rows of the command and stretto.h.
if(TARGET stretto)
  add_test(NAME man.help COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/man/test_help.py $<TARGET_FILE:stretto>
    $<TARGET_FILE_DIR:stretto>/stretto-pull)
  set_tests_properties(man.help PROPERTIES LABELS quick TIMEOUT 120)
endif()
if(TARGET stretto AND TARGET man)
  foreach(name pages completion)
    add_test(NAME man.${name} COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/man/test_${name}.py
      $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/man)
    set_tests_properties(man.${name} PROPERTIES LABELS "quick;source" TIMEOUT 60 SKIP_RETURN_CODE 77)
  endforeach()
endif()
