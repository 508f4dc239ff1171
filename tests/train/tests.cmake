# Training: adapters as files, and what is learned.
if(TARGET stretto)
  add_executable(adapter_tool ${CMAKE_CURRENT_SOURCE_DIR}/train/adapter_tool.c)
  target_link_libraries(adapter_tool PRIVATE stretto_all)
  add_test(NAME train.adapter COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_adapter.py $<TARGET_FILE:stretto>
           $<TARGET_FILE:adapter_tool>)
  add_executable(packed_check ${CMAKE_CURRENT_SOURCE_DIR}/train/packed_check.c)
  target_link_libraries(packed_check PRIVATE stretto_all)
  add_executable(fault_check ${CMAKE_CURRENT_SOURCE_DIR}/train/fault_check.c)
  target_link_libraries(fault_check PRIVATE stretto_all)
  add_executable(rows_check ${CMAKE_CURRENT_SOURCE_DIR}/train/rows_check.c)
  target_link_libraries(rows_check PRIVATE stretto_all)
  add_test(NAME train.rows COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_rows.py $<TARGET_FILE:stretto>
           ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin $<TARGET_FILE:rows_check>)
  set_tests_properties(train.rows PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_executable(teach_api ${CMAKE_CURRENT_SOURCE_DIR}/api/teach.c)
  target_link_libraries(teach_api PRIVATE stretto_all)
  add_test(NAME train.teach COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_teach.py $<TARGET_FILE:stretto>
           ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin $<TARGET_FILE:packed_check> $<TARGET_FILE:teach_api>
           $<TARGET_FILE:fault_check> ${sanitized})
  add_test(NAME train.phrases COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_phrases.py $<TARGET_FILE:stretto>
           ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin $<TARGET_FILE:fault_check>)
  add_test(NAME train.recipe COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_recipe.py $<TARGET_FILE:stretto>)
  add_test(NAME train.claims COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_claims.py
           $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR}/bench ${STRETTO_TEST_DATA})
  set_tests_properties(train.recipe train.claims PROPERTIES LABELS quick TIMEOUT 300)
  set_tests_properties(train.adapter train.teach train.phrases PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

# Gradients against the float64 forwards of tools/oracle, and against themselves.
if(TARGET stretto)
  add_executable(train_gradients train/gradients.c)
  target_link_libraries(train_gradients PRIVATE stretto_all)
  add_test(NAME train.gradients COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_gradients.py
    $<TARGET_FILE:train_gradients> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(train.gradients PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
if(TARGET stretto)
  add_test(NAME train.equal COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_equal.py
    $<TARGET_FILE:train_gradients> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(train.equal PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

# Optimizers against numpy.
if(TARGET stretto)
  add_executable(optimizer_check train/optimizer_check.c)
  target_link_libraries(optimizer_check PRIVATE stretto_all)
  add_test(NAME train.optimizer COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_optimizer.py
    $<TARGET_FILE:optimizer_check>)
  set_tests_properties(train.optimizer PROPERTIES LABELS quick TIMEOUT 300)
endif()
if(TARGET stretto)
  add_test(NAME train.jax COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_jax.py
    $<TARGET_FILE:train_gradients> ${CMAKE_BINARY_DIR}/golden $<TARGET_FILE:stretto>)
  set_tests_properties(train.jax PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

# Learning from another model.
if(TARGET stretto)
  add_test(NAME train.distill COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_distill.py $<TARGET_FILE:stretto>
           ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin $<TARGET_FILE:train_gradients> ${CMAKE_BINARY_DIR}/golden
           $<TARGET_FILE:fault_check>)
  set_tests_properties(train.distill PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()

# Learning to guess.
if(TARGET stretto)
  add_test(NAME train.gated COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_gated.py
           $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin)
  set_tests_properties(train.gated PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 300)
  add_test(NAME train.consistency COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_consistency.py
           $<TARGET_FILE:stretto> ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin $<TARGET_FILE:packed_check> ${CMAKE_BINARY_DIR}/golden
           $<TARGET_FILE:train_gradients>)
  set_tests_properties(train.consistency PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77
                       TIMEOUT 300)
endif()

# Heads that learn beside a model.
if(TARGET stretto)
  add_executable(heads_gradients train/heads_gradients.c)
  target_link_libraries(heads_gradients PRIVATE stretto_all)
  add_test(NAME train.heads_gradients COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_heads.py
    $<TARGET_FILE:heads_gradients> ${CMAKE_BINARY_DIR}/golden)
  set_tests_properties(train.heads_gradients PROPERTIES LABELS quick FIXTURES_REQUIRED golden SKIP_RETURN_CODE 77
                       TIMEOUT 300)
  add_test(NAME train.heads COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/train/test_teach_heads.py $<TARGET_FILE:stretto>
           ${CMAKE_SOURCE_DIR}/tools/make-model ${STRETTO_TEST_DATA}/models/stories260K.bin
           ${STRETTO_TEST_DATA}/models/tok512.bin)
  set_tests_properties(train.heads PROPERTIES LABELS quick SKIP_RETURN_CODE 77 TIMEOUT 600)
endif()
