"""Pruning in numpy from the papers, without a look at ours: magnitude, Wanda (arXiv 2306.11695), SparseGPT
(arXiv 2301.00774, its Algorithm 1), N:M patterns of each, and ridge regression on fewer inputs."""
import numpy as np


def lowest(scores, k):
    """True for the k lowest of a vector, the first of equal ones."""
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(scores, kind="stable")[:k]] = True
    return mask


def by_score(w, score, share, pattern, per_row):
    mask = np.zeros(w.shape, bool)
    if pattern:
        keep, of = pattern
        for r in range(w.shape[0]):
            for j in range(0, w.shape[1], of):
                mask[r, j:j + of] = lowest(score[r, j:j + of], of - keep)
    elif per_row:
        for r in range(w.shape[0]):
            mask[r] = lowest(score[r], int(share * w.shape[1] + 1e-9))
    else:
        mask = lowest(score.ravel(), int(share * w.size + 1e-9)).reshape(w.shape)
    return np.where(mask, 0, w)


def magnitude(w, gram, seen, share, pattern):
    return by_score(w, np.abs(w), share, pattern, False)


def wanda(w, gram, seen, share, pattern):
    return by_score(w, np.abs(w) * np.sqrt(np.diag(gram)), share, pattern, True)


def sparsegpt(w, gram, seen, share, pattern, damp=0.01, block=128):
    w, h = w.copy(), gram / seen
    h = h + damp * np.mean(np.diag(h)) * np.eye(len(h))
    root = np.linalg.cholesky(np.linalg.inv(h)).T          # upper, root^T root = h^-1
    n = w.shape[1]
    for at in range(0, n, block):
        end = min(at + block, n)
        errors = np.zeros((w.shape[0], end - at))
        mask = np.zeros((w.shape[0], end - at), bool)
        if not pattern:
            score = (w[:, at:end] / np.diag(root)[at:end]) ** 2
            mask = lowest(score.ravel(), int(share * score.size + 1e-9)).reshape(score.shape)
        for j in range(at, end):
            if pattern and (j - at) % pattern[1] == 0:
                score = (w[:, j:j + pattern[1]] / np.diag(root)[j:j + pattern[1]]) ** 2
                for r in range(len(w)):
                    mask[r, j - at:j - at + pattern[1]] = lowest(score[r], pattern[1] - pattern[0])
            q = np.where(mask[:, j - at], 0, w[:, j])
            errors[:, j - at] = (w[:, j] - q) / root[j, j]
            w[:, j + 1:end] -= np.outer(errors[:, j - at], root[j, j + 1:end])
            w[:, j] = q
        w[:, end:] -= errors @ root[at:end, end:]
    return w


def refit(w, gram, keep, damp):
    """The minimum of sum |W x - V x_kept|^2 + lambda |V - W_kept|^2, written as one least-squares problem."""
    lam = damp * np.mean(np.diag(gram))
    left = gram[np.ix_(keep, keep)] + lam * np.eye(len(keep))
    right = w @ gram[:, keep] + lam * w[:, keep]
    return np.linalg.solve(left, right.T).T


def lost(w, v, gram, keep, seen):
    e = w.copy()
    e[:, keep] -= v
    return np.einsum("ri,ij,rj->", e, gram, e) / seen


def order(w, gram, seen, go, damp):
    """Columns one by one, each time the one whose going costs least once the rest is solved anew (no updates: every
    candidate set is a least-squares problem of its own)."""
    h = gram / seen + damp * np.mean(np.diag(gram)) / seen * np.eye(len(gram))
    left, which, costs = list(range(len(h))), [], []
    for _ in range(go):
        inverse = np.linalg.inv(h[np.ix_(left, left)])
        v = w @ h[:, left] @ inverse
        i = int(np.argmin(np.sum(v * v, 0) / np.diag(inverse)))
        which.append(left.pop(i))
        inverse = np.linalg.inv(h[np.ix_(left, left)])
        e = w.copy()
        e[:, left] -= w @ h[:, left] @ inverse
        costs.append(np.einsum("ri,ij,rj->", e, h, e))
    return which, costs


def split(e, g):
    """Singular values of the error in the metric of its inputs; root^T root = g."""
    root = np.linalg.cholesky(g).T
    left, values, _ = np.linalg.svd(e @ root.T, full_matrices=False)
    return values, left, root
