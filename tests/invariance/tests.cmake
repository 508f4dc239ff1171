# Same bits whatever the batch on the default model; the tiny models of all families are compared by
# golden.invariance.
add_executable(invariance invariance/invariance.c)
target_link_libraries(invariance PRIVATE stretto_all)
add_test(NAME invariance.smollm2 COMMAND invariance
  ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf 100 best)
set_tests_properties(invariance.smollm2 PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
