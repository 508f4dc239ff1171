# Figures of quality beside numpy's, and beside other programs'.
if(TARGET stretto)
  add_test(NAME eval.kl COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_kl.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS})
  add_test(NAME eval.tasks COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_tasks.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS} ${STRETTO_TEST_DATA}
    ${CMAKE_SOURCE_DIR}/build/peers)
  add_test(NAME eval.tasks_peer COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_tasks.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS} ${STRETTO_TEST_DATA}
    ${CMAKE_SOURCE_DIR}/build/peers --peer)
  set_tests_properties(eval.kl eval.tasks PROPERTIES FIXTURES_REQUIRED golden LABELS quick SKIP_RETURN_CODE 77
    TIMEOUT 600)
  add_test(NAME eval.kl_peer COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_kl.py
    $<TARGET_FILE:stretto> ${CMAKE_BINARY_DIR}/golden ${STRETTO_TEST_MODELS} ${STRETTO_TEST_DATA}
    ${CMAKE_SOURCE_DIR}/build/peers)
  add_test(NAME eval.written COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_written.py
    $<TARGET_FILE:stretto> ${STRETTO_TEST_MODELS} ${CMAKE_SOURCE_DIR}/bench)
  set_tests_properties(eval.written PROPERTIES LABELS quick TIMEOUT 600)
  set_tests_properties(eval.tasks_peer eval.kl_peer PROPERTIES FIXTURES_REQUIRED golden LABELS full SKIP_RETURN_CODE 77
    TIMEOUT 1800)
endif()
if(TARGET stretto)
  add_executable(report_draw eval/report_draw.c ${CMAKE_SOURCE_DIR}/programs/stretto/report.c
    ${CMAKE_SOURCE_DIR}/programs/stretto/report_svg.c)
  target_include_directories(report_draw PRIVATE ${CMAKE_SOURCE_DIR}/programs)
  target_link_libraries(report_draw PRIVATE stretto_models m)
  add_test(NAME eval.report COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/eval/test_report.py $<TARGET_FILE:report_draw>)
  set_tests_properties(eval.report PROPERTIES LABELS quick TIMEOUT 300)
endif()
