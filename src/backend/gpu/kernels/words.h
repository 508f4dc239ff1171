/* What the backend (C) and its kernels (OpenCL C, CUDA C) both know: where things stand in the step
 * that goes over to the card, and the instructions of a row pass. Everything is words of 32 bits. */
#ifndef BACKEND_GPU_KERNELS_WORDS_H
#define BACKEND_GPU_KERNELS_WORDS_H

/* The step's words. Counts, then the word at which each array begins, then the arrays, tight: what a
 * step needs goes over in one copy. */
enum {
    STEP_ROWS,            /* rows of the step                                              */
    STEP_ASKS,            /* rows that ask                                                 */
    STEP_HEADS,           /* the first of them that want something of the head             */
    STEP_TILES,           /* tiles of attention                                            */
    STEP_POSITION,        /* [rows]                                                        */
    STEP_SLOT,            /* [rows] where its key and value go, in its sequence            */
    STEP_GIVEN,           /* [rows] 1: a prompt row                                        */
    STEP_BEFORE,          /* [rows] tokens of its sequence in the cache before this step   */
    STEP_SEES,            /* [rows] the end of what it sees: position + 1, or, where the
                             graph is bidirectional, its sequence's length                 */
    STEP_TAIL,            /* [rows] -1 for a chain: position p stands in slot p. In a tree, the word at
                             which a list begins: the slots of positions committed, committed + 1, ...,
                             its own                                                       */
    STEP_ASK_ROW,         /* [asks]                                                        */
    STEP_ASK_WANTS,       /* [asks] enum step_want                                         */
    STEP_TILE,            /* [tiles][TILE_WORDS]                                           */
    STEP_VECTORS,         /* 4 words: of each embedding, [rows][width] floats              */
    STEP_ANGLES = STEP_VECTORS + 4, /* 2 words: of each rope table, [rows][n_rot] floats:
                             cosines, then sines                                           */
    STEP_PAGE_AT = STEP_ANGLES + 2, /* 8 words: of each layer group, [rows] the word at which the page
                             table of the row's sequence begins: block b stands in page
                             step[step[step[STEP_PAGE_AT + group] + row] + b]              */
    STEP_HEADER = STEP_PAGE_AT + 8
};

/* A tile: rows of one sequence that attend together. */
enum {
    TILE_ROW,             /* its first row                                                 */
    TILE_ROWS,            /* how many                                                      */
    TILE_LOW,             /* the least position among them                                 */
    TILE_END,             /* the largest STEP_SEES among them                              */
    TILE_WORDS
};

/* Attention's chunks of positions: what is folded, whoever computes it (attention.cl). Those behind are larger,
 * so that long contexts leave few partial results. */
enum { CHUNK_FINE = 256, CHUNK_FINE_END = 4096, CHUNK_COARSE = 1024 };

/* An instruction of a row pass: what happens to one row, by one work-group. Places of values are floats
 * from the beginning of the activations: row r of a value begins at AT + r * LD. */
enum row_code {
    CODE_COPY_VECTOR,     /* out = the row's vector of embedding INSTR_TABLE               */
    CODE_NORM_RMS, CODE_NORM_LAYER, /* over the row, or each HEAD_DIM of it; weight W or -1, bias B or
                             -1 in the vectors; NUMBER eps                                 */
    CODE_ROPE_PAIRS, CODE_ROPE_HALVES, /* HEADS of HEAD_DIM, the first ROT rotated, angles of TABLE */
    CODE_SILU, CODE_GELU_TANH, CODE_GELU_ERF,
    CODE_SILU_MUL, CODE_GELU_TANH_MUL, /* out = act(in) * in2                              */
    CODE_MUL, CODE_ADD,
    CODE_BIAS,            /* out = in + vectors[B..]                                       */
    CODE_SCALE, CODE_SOFTCAP, /* by NUMBER                                                 */
    CODE_QUANT,           /* in to codes, scales, sums (below)                             */
    CODE_STORE,           /* in: keys, in2: values, into the cache: HEADS of HEAD_DIM      */
    CODE_ASK,             /* out row = in of the row that asks                             */
    CODE_TO_BF16          /* in to bf16                                                    */
};

enum {
    INSTR_OP,
    INSTR_IN, INSTR_IN_LD, INSTR_IN2, INSTR_IN2_LD, INSTR_OUT, INSTR_OUT_LD,
    INSTR_WIDTH,
    INSTR_W, INSTR_B,                     /* floats from the beginning of the vectors       */
    INSTR_HEAD_DIM, INSTR_HEADS, INSTR_TABLE, INSTR_ROT,
    INSTR_NUMBER,                         /* a float's bits                                 */
    /* Codes of quantised activations, as kernels/kernels.h has them; words from the beginning of the
     * activations, LDs in words: codes are 4 a word; D and S a float for 32 elements. */
    INSTR_Q, INSTR_Q_LD, INSTR_D, INSTR_S, INSTR_D_LD,
    INSTR_H, INSTR_H_LD,                  /* bf16, 2 a word                                 */
    INSTR_GROUP, INSTR_MEMBER,            /* STORE: layer group, layer of it                */
    INSTR_LAYERS,                         /* STORE: layers of the group                     */
    INSTR_WORDS = 32
};
#endif
