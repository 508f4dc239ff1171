add_test(NAME source.calibration COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_texts.py)
set_tests_properties(source.calibration PROPERTIES LABELS "quick;source" TIMEOUT 60)

# Methods that make models smaller, beside numpy's own.
if(TARGET stretto)
  add_executable(feedback_check compress/feedback_check.c)
  target_link_libraries(feedback_check PRIVATE stretto_all)
  add_test(NAME compress.feedback COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_feedback.py
    $<TARGET_FILE:feedback_check>)
  add_executable(codebook_check compress/codebook_check.c)
  target_link_libraries(codebook_check PRIVATE stretto_all)
  add_test(NAME compress.codebook COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_codebook.py
    $<TARGET_FILE:codebook_check>)
  set_tests_properties(compress.codebook PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 120)
  set_tests_properties(compress.feedback PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
endif()

if(TARGET stretto)
  # What linear layers read, beside the float64 forwards; the models are golden.make's.
  add_test(NAME compress.calibrate COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_calibrate.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(compress.calibrate PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600
    FIXTURES_REQUIRED golden)
  add_test(NAME compress.imatrix COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_imatrix.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden)
  add_test(NAME compress.fold COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_fold.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(compress.fold PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600
    FIXTURES_REQUIRED golden)
  set_tests_properties(compress.imatrix PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600
    FIXTURES_REQUIRED golden)
endif()
