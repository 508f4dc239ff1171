#include "serve/tls.h"
#include "base/file.h"
#include "base/memory.h"
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

enum { CHAIN = 16, OLD = 16 };

/* Pairs before the last stay a while: a handshake that began with one ends with it. */
struct pair { gnutls_pcert_st chain[CHAIN]; unsigned n; gnutls_privkey_t key; };
struct tls { struct pair now, old[OLD]; unsigned read; };

static struct tls *the_tls;                    /* the library's callback has no argument of ours */

static void pair_done(struct pair *p)
{
    for (unsigned i = 0; i < p->n; i++) gnutls_pcert_deinit(&p->chain[i]);
    if (p->key) gnutls_privkey_deinit(p->key);
    *p = (struct pair){ 0 };
}

static stretto_status read_chain(struct pair *p, const char *path, struct error *err)
{
    struct file_map m;
    TRY(file_map_open(&m, path, err));
    gnutls_datum_t data = { (unsigned char *)(uintptr_t)m.data, (unsigned)m.size };
    p->n = CHAIN;
    int r = m.size && m.size < 1 << 20
        ? gnutls_pcert_list_import_x509_raw(p->chain, &p->n, &data, GNUTLS_X509_FMT_PEM, 0)
        : GNUTLS_E_BASE64_DECODING_ERROR;
    file_map_close(&m);
    if (r >= 0) return STRETTO_OK;
    p->n = 0;
    return fail(err, STRETTO_E_FORMAT, "%s holds no certificate chain in PEM: %s", path, gnutls_strerror(r));
}

static stretto_status read_key(struct pair *p, const char *path, struct error *err)
{
    struct file_map m;
    TRY(file_map_open(&m, path, err));
    gnutls_datum_t data = { (unsigned char *)(uintptr_t)m.data, (unsigned)m.size };
    int r = gnutls_privkey_init(&p->key);
    if (r >= 0) r = gnutls_privkey_import_x509_raw(p->key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    file_map_close(&m);
    if (r >= 0) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "%s holds no private key in PEM: %s", path, gnutls_strerror(r));
}

/* The key signs for the certificate. */
static stretto_status check_pair(struct pair *p, const char *cert, const char *key, struct error *err)
{
    unsigned char a[64], b[64];
    size_t na = sizeof a, nb = sizeof b;
    gnutls_pubkey_t public;
    if (gnutls_pubkey_init(&public) < 0) return fail(err, STRETTO_E_NOMEM, "no memory for a key");
    int r = gnutls_pubkey_import_privkey(public, p->key, 0, 0);
    if (r >= 0) r = gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, a, &na);
    if (r >= 0) r = gnutls_pubkey_get_key_id(p->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, b, &nb);
    gnutls_pubkey_deinit(public);
    if (r >= 0 && na == nb && gnutls_memcmp(a, b, na) == 0) return STRETTO_OK;
    return fail(err, STRETTO_E_FORMAT, "the key in %s is not that of the certificate in %s", key, cert);
}

stretto_status tls_read(struct tls *t, const char *cert, const char *key, struct error *err)
{
    struct pair p = { 0 };
    stretto_status s = read_chain(&p, cert, err);
    if (s == STRETTO_OK) s = read_key(&p, key, err);
    if (s == STRETTO_OK) s = check_pair(&p, cert, key, err);
    if (s != STRETTO_OK) {
        pair_done(&p);
        return s;
    }
    struct pair *before = &t->old[t->read++ % OLD];
    pair_done(before);
    *before = t->now;
    t->now = p;
    return STRETTO_OK;
}

static int retrieve(gnutls_session_t session, const gnutls_datum_t *ca, int n_ca, const gnutls_pk_algorithm_t *algos,
                    int n_algos, gnutls_pcert_st **chain, unsigned *n, gnutls_privkey_t *key)
{
    (void)session; (void)ca; (void)n_ca; (void)algos; (void)n_algos;
    *chain = the_tls->now.chain;
    *n = the_tls->now.n;
    *key = the_tls->now.key;
    return 0;
}

void tls_options(struct tls *t, struct MHD_OptionItem items[3])
{
    the_tls = t;
    items[0] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)retrieve };
    items[1] = (struct MHD_OptionItem){ MHD_OPTION_HTTPS_PRIORITIES, 0,
                                        (void *)(uintptr_t)"NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" };
    items[2] = (struct MHD_OptionItem){ MHD_OPTION_END, 0, NULL };
}

stretto_status tls_open(struct tls **out, const char *cert, const char *key, struct error *err)
{
    struct tls *t = mem_zalloc(1, sizeof *t);
    *out = NULL;
    if (!t) return fail(err, STRETTO_E_NOMEM, "no memory for TLS");
    stretto_status s = tls_read(t, cert, key, err);
    if (s == STRETTO_OK) *out = t;
    else tls_close(t);
    return s;
}

void tls_close(struct tls *t)
{
    if (!t) return;
    pair_done(&t->now);
    for (unsigned i = 0; i < OLD; i++) pair_done(&t->old[i]);
    mem_free(t);
}
