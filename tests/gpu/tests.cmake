# Cards without a card: mocks of the libraries of NVIDIA and of OpenCL; what our declarations and kernels are to the
# real toolkit.
add_library(mock_cuda MODULE gpu/mock_cuda.c gpu/mock_nvrtc.c)
target_include_directories(mock_cuda PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(mock_cuda PRIVATE stretto_flags Threads::Threads ${CMAKE_DL_LIBS})
foreach(user backend_test_gpu_cuda backend_test_gpu_faults backend_test_gpu_program)
  add_dependencies(${user} mock_cuda)
  target_compile_definitions(${user} PRIVATE MOCK_CUDA_PATH="$<TARGET_FILE:mock_cuda>")
endforeach()
add_library(mock_opencl MODULE gpu/mock_opencl.c)
target_include_directories(mock_opencl PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(mock_opencl PRIVATE stretto_flags Threads::Threads ${CMAKE_DL_LIBS})
add_dependencies(backend_test_gpu_opencl_faults mock_opencl)
target_compile_definitions(backend_test_gpu_opencl_faults PRIVATE MOCK_OPENCL_PATH="$<TARGET_FILE:mock_opencl>")

# What is launched goes the same way through CUDA's driver.
foreach(name linear rows head attention graphs)
  if(TARGET backend_test_gpu_${name})
    add_test(NAME cuda.mock.${name} COMMAND backend_test_gpu_${name})
    set_tests_properties(cuda.mock.${name} PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 600 ENVIRONMENT
      "STRETTO_TEST_GPU=cuda;STRETTO_CUDA=$<TARGET_FILE:mock_cuda>;STRETTO_NVRTC=$<TARGET_FILE:mock_cuda>")
    add_dependencies(backend_test_gpu_${name} mock_cuda)
  endif()
endforeach()

find_path(STRETTO_CUDA_INCLUDE cuda.h HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include NO_CACHE)
add_executable(gpu_abi gpu/abi.c)
target_link_libraries(gpu_abi PRIVATE stretto_flags ${CMAKE_DL_LIBS})
if(STRETTO_CUDA_INCLUDE)
  get_filename_component(toolkit ${STRETTO_CUDA_INCLUDE} DIRECTORY)
  target_include_directories(gpu_abi SYSTEM PRIVATE ${STRETTO_CUDA_INCLUDE})
  target_compile_definitions(gpu_abi PRIVATE TOOLKIT="${toolkit}")
endif()
add_test(NAME cuda.abi COMMAND gpu_abi)
set_tests_properties(cuda.abi PROPERTIES LABELS quick SKIP_RETURN_CODE 77)

# The kernels as the launchers give them to a compiler: nvcc for all architectures, NVRTC as on a card.
add_executable(gpu_sources gpu/sources.c)
target_link_libraries(gpu_sources PRIVATE stretto_all)
add_dependencies(gpu_sources mock_cuda)
add_test(NAME cuda.nvcc COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/gpu/test_nvcc.py
  $<TARGET_FILE:gpu_sources> $<TARGET_FILE:mock_cuda>)
add_test(NAME cuda.nvcc.all COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/gpu/test_nvcc.py
  $<TARGET_FILE:gpu_sources> $<TARGET_FILE:mock_cuda> --all)
add_test(NAME cuda.nvrtc COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/gpu/nvrtc.sh
  $<TARGET_FILE:gpu_sources> $<TARGET_FILE:mock_cuda>)
add_test(NAME cuda.nvrtc.all COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/gpu/nvrtc.sh
  $<TARGET_FILE:gpu_sources> $<TARGET_FILE:mock_cuda> all)
set_tests_properties(cuda.nvcc cuda.nvrtc PROPERTIES LABELS full SKIP_RETURN_CODE 77 TIMEOUT 600)
set_tests_properties(cuda.nvcc.all cuda.nvrtc.all PROPERTIES LABELS night SKIP_RETURN_CODE 77 TIMEOUT 3600)

# Whole models on cards: OpenCL's, which is this CPU (PoCL), and CUDA's, which is the mock's and has the kernels of
# cards with matrix instructions, and tapes. PoCL keeps what it compiled for all tests and builds of this machine, by
# digests of sources and options (~/.cache/pocl): compiling takes ten times as long as the tests.
function(card_test name label device)
  add_test(NAME gpu.${name} COMMAND ${ARGN})
  set(mock $<TARGET_FILE:mock_cuda>)
  set_tests_properties(gpu.${name} PROPERTIES LABELS ${label} SKIP_RETURN_CODE 77 TIMEOUT 1800 PROCESSORS 2
    FIXTURES_REQUIRED golden ENVIRONMENT "STRETTO_DEVICE=${device}\
;STRETTO_KERNELS=;STRETTO_CUDA=${mock};STRETTO_NVRTC=${mock};STRETTO_NVML=${mock}")
endfunction()
tiny_models(card_all llama)
tiny_models(card_families llama-sizes qwen2 qwen3 gemma2 gemma3 phi3-partial olmo2 olmo3 gpt2 bert type-mixed)
tiny_models(card_exact llama qwen2)
tiny_models(card_cuda llama type-q4_1)
card_test(invariance full opencl invariance --few ${card_all})
card_test(invariance.families full opencl invariance --few --cache f16 ${card_families})
card_test(invariance.cuda full cuda invariance --few --cache f16 ${card_cuda})
card_test(exact full opencl decode_exact --slice --tokens 24 ${card_exact})
card_test(exact.cuda full cuda decode_exact --slice --tokens 12 ${card_all})
# A model over a card and the cpu: not the cpu's bits, but the same in every schedule and for every guess.
tiny_models(card_split llama gpt2 bert)
card_test(split full opencl invariance --split --cache f16 ${card_split})
card_test(split.cuda full cuda invariance --split --cache f16 ${card_all})
card_test(split.exact full opencl decode_exact --slice --tokens 24 --layers 1 ${card_exact})
if(TARGET stretto)
  card_test(families full opencl python3 ${CMAKE_CURRENT_SOURCE_DIR}/golden/test_families.py $<TARGET_FILE:stretto>
    ${CMAKE_BINARY_DIR}/golden bert gemma2 gemma3 gpt2 llama mistral olmo2 olmo3 phi3 qwen2 qwen3 type-mixed)
  card_test(text night opencl python3 ${CMAKE_CURRENT_SOURCE_DIR}/gpu/test_text.py $<TARGET_FILE:stretto>
    ${STRETTO_TEST_MODELS}/SmolLM2-135M-Instruct.Q4_1.gguf opencl)
endif()
