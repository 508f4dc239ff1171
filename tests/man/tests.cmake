# Man pages and completion agree with the rows of the command and with stretto.h, and work.
if(TARGET stretto)
  add_test(NAME man.pages
    COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/make_man.py $<TARGET_FILE:stretto> --check)
  add_test(NAME man.completion COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/man/test_completion.py
    $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR}/man)
  add_test(NAME man.help COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/man/test_help.py $<TARGET_FILE:stretto>
    $<TARGET_FILE_DIR:stretto>/stretto-pull)
  set_tests_properties(man.help PROPERTIES LABELS quick TIMEOUT 120)
  set_tests_properties(man.pages man.completion PROPERTIES LABELS "quick;source" TIMEOUT 60
    SKIP_RETURN_CODE 77)
endif()
