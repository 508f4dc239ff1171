/* What a row's logits say: the likeliest token, or the STEP_TOP likeliest. Work-groups take blocks of the
 * vocabulary and leave what they found; one work-group a row joins it.
 *
 * A logit and its token are one number of 64 bits that orders as they do: the logit's bits made to ascend, then
 * the token's complement, so of equal logits the lower token is the larger. Numbers differ, so the next of them
 * is the largest below the one before. What is no number stands above all others, and nothing is 0.
 *
 *   HEAD_LANES    lanes of a work-group, a multiple of 16
 *   HEAD_BLOCK    logits of a block, a multiple of HEAD_LANES
 *   STEP_TOP, ANSWER_WORDS
 */
enum { HEAD_EACH = HEAD_BLOCK / HEAD_LANES, HEAD_FOLD = 16 };

DEVICE ulong key_of(float logit, int token)
{
    int bits = logit == 0.0f ? 0 : float_bits(logit);
    uint order = bits < 0 ? ~(uint)bits : (uint)bits | 0x80000000u;
    if (logit != logit) order = 0xffffffffu;
    return (ulong)order << 32 | (uint)~token;
}

DEVICE int is_nan_key(ulong key) { return (uint)(key >> 32) == 0xffffffffu; }
DEVICE int token_of(ulong key) { return key ? ~(int)(uint)key : -1; }

/* The largest of the work-group's, for all lanes; `kept` has HEAD_LANES + HEAD_FOLD places. */
DEVICE ulong largest(ulong key, TO_LOCAL ulong *kept)
{
    int l = lane_id();
    TO_LOCAL ulong *folded = kept + HEAD_LANES;
    kept[l] = key;
    barrier_local();
    if (l < HEAD_FOLD) {
        for (int i = l; i < HEAD_LANES; i += HEAD_FOLD) key = kept[i] > key ? kept[i] : key;
        folded[l] = key;
    }
    barrier_local();
    for (int i = 0; i < HEAD_FOLD; i++) key = folded[i] > key ? folded[i] : key;
    return key;
}

/* Adds the bias, caps (the cpu's order), and finds the block's `rounds` likeliest, which stand in
 * found[row][block][rounds]. Rows are asks from first_row on. */
KERNEL KERNEL_LANES(HEAD_LANES) void head_scan(GLOBAL float *act, GLOBAL const float *vectors,
                                               GLOBAL const int *step, GLOBAL ulong *found, uint logits,
                                               uint ld, int vocab, int blocks, int first_row, int bias,
                                               float cap, int rounds)
{
    LOCAL ulong kept[HEAD_LANES + HEAD_FOLD];
    int block = group_id(0), row = group_id(1), begin = block * HEAD_BLOCK + lane_id();
    GLOBAL float *x = act + (size_t)logits + (size_t)row * ld;
    ulong key[HEAD_EACH], last = 0;
    if (first_row + row >= step[STEP_ASKS]) rounds = 0, vocab = 0;
    UNROLL
    for (int i = 0; i < HEAD_EACH; i++) {
        int at = begin + i * HEAD_LANES;
        key[i] = 0;
        if (at < vocab) {
            float v = x[at];
            if (bias >= 0) v += vectors[bias + at];
            if (cap > 0.0f) v = cap * tanh(v / cap);
            if (bias >= 0 || cap > 0.0f) x[at] = v;
            key[i] = key_of(v, at);
        }
    }
    for (int r = 0; r < rounds; r++) {
        ulong most = 0;
        UNROLL
        for (int i = 0; i < HEAD_EACH; i++)
            if (key[i] > most && (r == 0 || key[i] < last)) most = key[i];
        last = largest(most, kept);
        if (lane_id() == 0) found[((size_t)row * blocks + block) * rounds + r] = last;
    }
}

/* Of what head_scan found in a row's blocks, the answer. */
KERNEL KERNEL_LANES(HEAD_LANES) void head_join(GLOBAL const float *act, GLOBAL const int *step,
                                               GLOBAL const ulong *found, GLOBAL int *answers, uint logits,
                                               uint ld, int blocks, int first_row, int rounds)
{
    LOCAL ulong kept[HEAD_LANES + HEAD_FOLD];
    int row = group_id(0), n = blocks * rounds;
    GLOBAL const float *x = act + (size_t)logits + (size_t)row * ld;
    GLOBAL const ulong *f = found + (size_t)row * n;
    GLOBAL int *a = answers + (size_t)(first_row + row) * ANSWER_WORDS;
    ulong last = 0;
    int top = rounds == STEP_TOP;
    if (first_row + row >= step[STEP_ASKS]) rounds = 0;
    for (int r = 0; r < rounds; r++) {
        ulong most = 0;
        for (int i = lane_id(); i < n; i += HEAD_LANES)
            if (f[i] > most && (r == 0 || f[i] < last)) most = f[i];
        last = largest(most, kept);
        int token = token_of(last), bits = token < 0 ? 0 : float_bits(x[token]);
        if (lane_id() == 0) {
            if (r == 0) {
                a[0] = token;
                a[1] = bits;
                a[2] = is_nan_key(last);
                a[3] = 0;
            }
            if (top) {
                a[4 + r] = token;
                a[4 + STEP_TOP + r] = bits;
            }
        }
    }
}
