# Models against the float64 forwards of tools/oracle. The tiny ones are made once for a build folder.
set(golden_dir ${CMAKE_BINARY_DIR}/golden)
set(golden_here ${CMAKE_CURRENT_SOURCE_DIR}/golden)
add_test(NAME golden.make COMMAND python3 ${CMAKE_SOURCE_DIR}/tools/make_golden.py --out ${golden_dir})
set_tests_properties(golden.make PROPERTIES FIXTURES_SETUP golden LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)

add_test(NAME bench.peers COMMAND python3 ${golden_here}/test_peers.py)
set_tests_properties(bench.peers PROPERTIES LABELS quick TIMEOUT 300)

# golden_test(NAME LABEL TIMEOUT script arguments...)
function(golden_test name label timeout script)
  add_test(NAME golden.${name} COMMAND python3 ${golden_here}/${script} $<TARGET_FILE:stretto> ${ARGN})
  set_tests_properties(golden.${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout} SKIP_RETURN_CODE 77)
endfunction()

if(TARGET stretto)
  golden_test(families quick 900 test_families.py ${golden_dir})
  golden_test(families.ref full 1800 test_families.py ${golden_dir})
  set_tests_properties(golden.families.ref PROPERTIES FIXTURES_REQUIRED golden ENVIRONMENT STRETTO_CPU=ref)
  golden_test(hostile full 1800 test_hostile.py ${golden_dir} ${STRETTO_TEST_DATA})
  set_tests_properties(golden.families golden.hostile PROPERTIES FIXTURES_REQUIRED golden)
  # Nothing of a file is passed over.
  add_executable(golden_keys ${golden_here}/keys.c)
  target_link_libraries(golden_keys PRIVATE stretto_all)
  golden_test(closure.faults quick 600 test_closure.py faults ${STRETTO_TEST_DATA})
  golden_test(closure.tensors quick 600 test_closure.py tensors)
  golden_test(closure.saved quick 600 test_closure.py saved ${CMAKE_SOURCE_DIR}/tests/data/llama_cpp_saved.json)
  golden_test(closure.rope quick 600 test_closure.py rope)
  golden_test(closure.keys full 1800 test_closure.py keys)
  golden_test(closure.fields full 1800 test_closure.py fields)
  golden_test(closure.defaults quick 600 test_closure.py defaults $<TARGET_FILE:golden_keys>)
  golden_test(minilm full 900 test_minilm.py ${STRETTO_TEST_MODELS})
  golden_test(smollm2.ppl full 1800 test_smollm2.py ${STRETTO_TEST_MODELS} ${STRETTO_TEST_DATA} ppl)
  golden_test(smollm2.kl full 1800 test_smollm2.py ${STRETTO_TEST_MODELS} ${STRETTO_TEST_DATA} kl)
endif()

# Same bits whatever the batch.
add_executable(golden_invariance ${golden_here}/invariance.c)
target_link_libraries(golden_invariance PRIVATE stretto_all)
add_test(NAME golden.invariance COMMAND sh -c "exec \"$0\" $(cat ${golden_dir}/invariance.txt)"
  $<TARGET_FILE:golden_invariance>)
add_test(NAME golden.invariance.thorough COMMAND golden_invariance --thorough ${golden_dir}/llama/model.gguf)
add_test(NAME golden.invariance.ref COMMAND golden_invariance ${golden_dir}/gemma2/model.gguf
  ${golden_dir}/type-q4_1/model.gguf)
set_tests_properties(golden.invariance golden.invariance.thorough golden.invariance.ref PROPERTIES
  FIXTURES_REQUIRED golden LABELS full SKIP_RETURN_CODE 77 TIMEOUT 1800)
set_tests_properties(golden.invariance.ref PROPERTIES ENVIRONMENT STRETTO_CPU=ref)
