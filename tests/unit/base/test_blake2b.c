/* BLAKE2b against the vector of RFC 7693, appendix A, and digests that Python's hashlib made. */
#include "base/blake2b.h"
#include "unit/unit.h"

static void digest(const unsigned char *data, size_t n, size_t step, size_t bytes, char *hex)
{
    struct blake2b b;
    unsigned char out[64];
    blake2b_begin(&b, bytes);
    for (size_t i = 0; i < n; i += step) blake2b_add(&b, data + i, n - i < step ? n - i : step);
    blake2b_end(&b, out);
    for (size_t i = 0; i < bytes; i++) sprintf(hex + 2 * i, "%02x", out[i]);
}

static void vectors(void **state)
{
    (void)state;
    char hex[129];
    digest((const unsigned char *)"abc", 3, 3, 64, hex);
    assert_string_equal(hex, "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
                             "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923");
    static const struct { size_t n; const char *hex; } rows[] = {
        { 0, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8" },
        { 1, "03170a2e7597b7b7e3d84c05391d139a62b157e78786d8c082f29dcf4c111314" },
        { 127, "4ff62e7c4c43fe101a078479c48836be4907d9d498dcc577ca89d694b2c11f9b" },
        { 128, "14696d2a98d9f8a280da8b132b1045b345e1033759c6b02fcc4ee885c8ae7c37" },
        { 129, "3934215260b1039be9d9d2b073b059bcd50120c327a22af93eb4d98cf821c14c" },
        { 255, "a3bb8b4fa098078d32bb5a89e905e237862fd83e99141ca7d8a073bb268ba2a0" },
        { 256, "3d0cb2693dfbac42af5a6cc960953fea8714aa39c4bcd054ef61d6b5e98ade4a" },
        { 257, "00466ab5e91660e4fdbef955724cca27cee84370539f22d393d1f566bd177514" },
        { 1000, "38981cec8fd0971914a759c4fac0538dbb29495eec4aea07f277e1f5f8562d27" },
    };
    unsigned char data[1000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (unsigned char)(i * 7 + i / 256);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t step = 1; step < 300; step = step * 2 + 1) {
            digest(data, rows[i].n, step, 32, hex);
            assert_string_equal(hex, rows[i].hex);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(vectors) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
