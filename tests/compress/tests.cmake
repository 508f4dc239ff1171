add_test(NAME source.calibration COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/compress/test_texts.py)
set_tests_properties(source.calibration PROPERTIES LABELS "quick;source" TIMEOUT 60)
