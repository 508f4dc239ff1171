# Models against the float64 forwards of tools/oracle. The tiny ones are made once for a build folder.
if(TARGET stretto AND EXISTS ${CMAKE_SOURCE_DIR}/programs/stretto/cmd_eval.c)
  set(golden_dir ${CMAKE_BINARY_DIR}/golden)
  add_test(NAME golden.make COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/make_golden.py --out ${golden_dir})
  set_tests_properties(golden.make PROPERTIES FIXTURES_SETUP golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)

  add_test(NAME golden.families COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/golden/test_families.py
    $<TARGET_FILE:stretto> ${golden_dir})
  set_tests_properties(golden.families PROPERTIES FIXTURES_REQUIRED golden LABELS quick
    SKIP_RETURN_CODE 77 TIMEOUT 900)
endif()
