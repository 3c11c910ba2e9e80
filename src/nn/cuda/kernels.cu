// The network's operations on CUDA that candle's own would need many passes over memory for: forward, and their gradients.
//
// Every kernel has the same signature, so that one launcher serves them all: numbers, up to four inputs, one output. Tensors are
// contiguous f32, channels last. Sums are made in a fixed order: the same bits at every run. Blocks have THREADS threads.
// Compiled for a processor as emulation.cpp does, the same text runs in the tests.

#define THREADS 256

struct Numbers {
    unsigned n;  // work items
    int i[11];
    float f[4];
};

#ifndef KERNEL
#define KERNEL(name) extern "C" __global__ void name(Numbers p, const float *a, const float *b, const float *c, const float *d, float *y)
#endif
#define EACH(t)                                                    \
    const unsigned t = blockIdx.x * (unsigned)THREADS + threadIdx.x; \
    if (t >= p.n) return

template <int V> struct alignas(4 * V) Pack {
    float v[V];
};

// ---- convolution ----

// a (m, h, w, c) -> y (m, ho, wo, k k c): every k x k window as one row. A work item is V channels of one tap.
template <int V> __device__ void unfold(const Numbers &p, unsigned t, const float *a, float *y) {
    const int h = p.i[0], w = p.i[1], cv = p.i[2] / V, k = p.i[3], stride = p.i[4], padding = p.i[5], ho = p.i[6], wo = p.i[7];
    const unsigned ch = t % cv;
    unsigned r = t / cv;
    const int tap = r % (k * k);
    r /= k * k;
    const int x = (int)(r % wo) * stride + tap % k - padding;
    r /= wo;
    const int row = (int)(r % ho) * stride + tap / k - padding;
    const unsigned m = r / ho;
    Pack<V> out = {};
    if (row >= 0 && row < h && x >= 0 && x < w) out = ((const Pack<V> *)a)[((size_t)(m * h + row) * w + x) * cv + ch];
    ((Pack<V> *)y)[t] = out;
}
KERNEL(unfold1) { EACH(t); unfold<1>(p, t, a, y); }
KERNEL(unfold4) { EACH(t); unfold<4>(p, t, a, y); }

// The other way: gradient a of the windows to gradient y (m, h, w, c) of the picture. A work item is V channels of one pixel.
template <int V> __device__ void fold(const Numbers &p, unsigned t, const float *a, float *y) {
    const int h = p.i[0], w = p.i[1], cv = p.i[2] / V, k = p.i[3], stride = p.i[4], padding = p.i[5], ho = p.i[6], wo = p.i[7];
    const unsigned ch = t % cv;
    unsigned r = t / cv;
    const int x = r % w;
    r /= w;
    const int row = r % h;
    const unsigned m = r / h;
    Pack<V> sum = {};
    for (int dy = 0; dy < k; dy++) {
        const int yo = row + padding - dy;
        if (yo < 0 || yo % stride != 0 || yo / stride >= ho) continue;
        for (int dx = 0; dx < k; dx++) {
            const int xo = x + padding - dx;
            if (xo < 0 || xo % stride != 0 || xo / stride >= wo) continue;
            const size_t pixel = (size_t)(m * ho + yo / stride) * wo + xo / stride;
            const Pack<V> g = ((const Pack<V> *)a)[(pixel * (k * k) + dy * k + dx) * cv + ch];
            for (int v = 0; v < V; v++) sum.v[v] += g.v[v];
        }
    }
    ((Pack<V> *)y)[t] = sum;
}
KERNEL(fold1) { EACH(t); fold<1>(p, t, a, y); }
KERNEL(fold4) { EACH(t); fold<4>(p, t, a, y); }

// a (groups, rows, c) + b (groups, c) -> y; p.i = rows, c
KERNEL(add_bias) {
    EACH(t);
    const unsigned c_ = p.i[1], row = t / c_;
    y[t] = a[t] + b[row / p.i[0] * c_ + t % c_];
}

// ---- activations: kind 0 none, 1 ReLU, 2 SiLU, 3 leaky ReLU ----

__device__ float activation(int kind, float slope, float x) {
    switch (kind) {
    case 1: return x > 0.f ? x : 0.f;
    case 2: return x / (1.f + expf(-x));
    case 3: return x > 0.f ? x : slope * x;
    default: return x;
    }
}

__device__ float activation_slope(int kind, float slope, float x) {
    switch (kind) {
    case 1: return x > 0.f ? 1.f : 0.f;
    case 2: {
        const float s = 1.f / (1.f + expf(-x));
        return s * (1.f + x * (1.f - s));
    }
    case 3: return x > 0.f ? 1.f : slope;
    default: return 1.f;
    }
}

KERNEL(activate) { EACH(t); y[t] = activation(p.i[0], p.f[0], a[t]); }
// Of a, with the gradient b of the result.
KERNEL(activate_gradient) { EACH(t); y[t] = b[t] * activation_slope(p.i[0], p.f[0], a[t]); }

// ---- sums over rows ----
// a is (segments, rows, c). Each block takes `rows per chunk` rows of one segment and up to THREADS columns, and writes what it
// found for each column: y (segments, chunks, values, c). p.i = rows, c, rows per chunk, chunks, column blocks.

struct Sum {
    float first, second;
};

struct Place {
    int segment, chunk, column, columns, from, to, step, lane;
};

// Which rows and which column are this thread's; column < 0 where none is.
__device__ Place place(const Numbers &p) {
    const int rows = p.i[0], c = p.i[1], per_chunk = p.i[2], chunks = p.i[3], blocks = p.i[4];
    unsigned r = blockIdx.x;
    Place at;
    const int first = (int)(r % blocks) * THREADS;
    r /= blocks;
    at.chunk = r % chunks;
    at.segment = r / chunks;
    at.columns = c - first < THREADS ? c - first : THREADS;
    at.step = THREADS / at.columns;
    const int t = threadIdx.x;
    at.column = t < at.columns * at.step ? first + t % at.columns : -1;
    at.lane = t / at.columns;
    at.from = at.chunk * per_chunk;
    at.to = at.from + per_chunk < rows ? at.from + per_chunk : rows;
    return at;
}

// Adds what the threads of one column found; the sum is the thread's whose lane is 0.
__device__ Sum gather(const Place &at, Sum mine) {
    __shared__ Sum all[THREADS];
    all[threadIdx.x] = mine;
    __syncthreads();
    if (at.lane == 0)
        for (int k = 1; k < at.step; k++) {
            mine.first += all[threadIdx.x + k * at.columns].first;
            mine.second += all[threadIdx.x + k * at.columns].second;
        }
    return mine;
}

KERNEL(column_sums) {
    const Place at = place(p);
    const int c_ = p.i[1];
    Sum sum = {0.f, 0.f};
    if (at.column >= 0)
        for (int row = at.from + at.lane; row < at.to; row += at.step) sum.first += a[((size_t)at.segment * p.i[0] + row) * c_ + at.column];
    sum = gather(at, sum);
    if (at.lane == 0 && at.column >= 0) y[((size_t)at.segment * p.i[3] + at.chunk) * c_ + at.column] = sum.first;
}

// Mean, and sum of squared distances from it, of each column of a chunk: values = 2. Distances from the chunk's first value are
// summed, so that a large mean costs no digits.
KERNEL(column_moments) {
    const Place at = place(p);
    const int c_ = p.i[1];
    Sum sum = {0.f, 0.f};
    float pivot = 0.f;
    if (at.column >= 0) {
        const float *x = a + (size_t)at.segment * p.i[0] * c_ + at.column;
        pivot = x[(size_t)at.from * c_];
        for (int row = at.from + at.lane; row < at.to; row += at.step) {
            const float v = x[(size_t)row * c_] - pivot;
            sum.first += v;
            sum.second += v * v;
        }
    }
    sum = gather(at, sum);
    if (at.lane == 0 && at.column >= 0) {
        const float n = (float)(at.to - at.from), mean = sum.first / n;
        float *out = y + ((size_t)at.segment * p.i[3] + at.chunk) * 2 * c_ + at.column;
        out[0] = pivot + mean;
        const float rest = sum.second - sum.first * mean;
        out[c_] = rest > 0.f ? rest : 0.f;
    }
}

// y (segments, c): a (segments, chunks, c) summed over chunks; p.i = chunks, c
KERNEL(total) {
    EACH(t);
    const int chunks = p.i[0], c_ = p.i[1];
    const float *from = a + (size_t)(t / c_) * chunks * c_ + t % c_;
    float sum = 0.f;
    for (int k = 0; k < chunks; k++) sum += from[(size_t)k * c_];
    y[t] = sum;
}

// ---- norms ----
// A statistic is (mean, 1 / deviation). Row r of x (rows, c), channel ch, has the statistic (r / area) groups + ch / (c / groups), and
// bias and weight of class r / area / pictures: affine (classes, 2, c). Layer norm: area 1, one group, one class.
// p.i of the elementwise kernels: c, area, groups, pictures, kind of activation.

// Of moments a (pictures, chunks, 2, c) each picture's groups: y (pictures, groups, 2). p.i = rows, c, rows per chunk, chunks, groups
KERNEL(group_statistics) {
    EACH(t);
    const int rows = p.i[0], c_ = p.i[1], per_chunk = p.i[2], chunks = p.i[3], groups = p.i[4], width = c_ / groups;
    const float *from = a + (size_t)(t / groups) * chunks * 2 * c_ + t % groups * width;
    float mean = 0.f;
    for (int k = 0; k < chunks; k++) {
        const int n = rows - k * per_chunk < per_chunk ? rows - k * per_chunk : per_chunk;
        float sum = 0.f;
        for (int ch = 0; ch < width; ch++) sum += from[(size_t)k * 2 * c_ + ch];
        mean += sum * n;
    }
    mean /= (float)rows * width;
    float squares = 0.f;
    for (int k = 0; k < chunks; k++) {
        const int n = rows - k * per_chunk < per_chunk ? rows - k * per_chunk : per_chunk;
        for (int ch = 0; ch < width; ch++) {
            const float *at = from + (size_t)k * 2 * c_ + ch;
            squares += at[c_] + n * (at[0] - mean) * (at[0] - mean);
        }
    }
    y[2 * t] = mean;
    y[2 * t + 1] = 1.f / sqrtf(squares / ((float)rows * width) + p.f[0]);
}

struct Normal {
    float normal, weight, bias, deviation;
    int statistic;
};

__device__ Normal normal(const Numbers &p, unsigned t, float x, const float *statistics, int values, const float *affine) {
    const int c_ = p.i[0], area = p.i[1], groups = p.i[2], ch = t % c_, picture = t / c_ / area;
    Normal n;
    n.statistic = picture * groups + ch / (c_ / groups);
    n.deviation = statistics[(size_t)n.statistic * values + 1];
    n.normal = (x - statistics[(size_t)n.statistic * values]) * n.deviation;
    n.weight = 1.f;
    n.bias = 0.f;
    if (affine) {
        const float *of = affine + (size_t)(picture / p.i[3]) * 2 * c_ + ch;
        n.bias = of[0];
        n.weight = of[c_];
    }
    return n;
}

// x a, statistics b, affine c or none
KERNEL(normalise) {
    EACH(t);
    const Normal n = normal(p, t, a[t], b, 2, c);
    y[t] = activation(p.i[4], p.f[0], n.normal * n.weight + n.bias);
}

// As column_sums, of the gradient before the activation and of that times the normalised value: values = 2. a = x, b = gradient of the
// result, c = statistics, d = affine or none. p.i = rows, c, rows per chunk, chunks, column blocks, then those of `normalise`.
KERNEL(norm_sums) {
    const Place at = place(p);
    const int c_ = p.i[1];
    Numbers q = {};
    for (int k = 0; k < 5; k++) q.i[k] = p.i[5 + k];
    Sum sum = {0.f, 0.f};
    if (at.column >= 0)
        for (int row = at.from + at.lane; row < at.to; row += at.step) {
            const size_t t = ((size_t)at.segment * p.i[0] + row) * c_ + at.column;
            const Normal n = normal(q, (unsigned)t, a[t], c, 2, d);
            const float g = b[t] * activation_slope(q.i[4], p.f[0], n.normal * n.weight + n.bias);
            sum.first += g;
            sum.second += g * n.normal;
        }
    sum = gather(at, sum);
    if (at.lane == 0 && at.column >= 0) {
        float *out = y + ((size_t)at.segment * p.i[3] + at.chunk) * 2 * c_ + at.column;
        out[0] = sum.first;
        out[c_] = sum.second;
    }
}

// What a statistic's elements have in common in the gradient: y (pictures, groups, 4) of mean, 1 / deviation, and the means of the
// gradient times weight and of that times the normalised value. a = sums (pictures, 2, c), b = statistics, c = affine or none.
// p.i = c, area, groups, pictures
KERNEL(group_gradients) {
    EACH(t);
    const int c_ = p.i[0], groups = p.i[2], width = c_ / groups, picture = t / groups;
    const float count = (float)p.i[1] * width;
    const float *sums = a + (size_t)picture * 2 * c_ + t % groups * width;
    const float *weight = c ? c + ((size_t)(picture / p.i[3]) * 2 + 1) * c_ + t % groups * width : 0;
    float first = 0.f, second = 0.f;
    for (int ch = 0; ch < width; ch++) {
        const float w = weight ? weight[ch] : 1.f;
        first += w * sums[ch];
        second += w * sums[c_ + ch];
    }
    y[4 * t] = b[2 * t];
    y[4 * t + 1] = b[2 * t + 1];
    y[4 * t + 2] = first / count;
    y[4 * t + 3] = second / count;
}

// Gradient of x: a = x, b = gradient of the result, c = what group_gradients or row_gradients gave, d = affine or none
KERNEL(norm_gradient) {
    EACH(t);
    const Normal n = normal(p, t, a[t], c, 4, d);
    const float *common = c + (size_t)n.statistic * 4;
    const float g = b[t] * activation_slope(p.i[4], p.f[0], n.normal * n.weight + n.bias);
    y[t] = n.deviation * (n.weight * g - common[2] - n.normal * common[3]);
}

// ---- rows: LANES threads to each ----

#define LANES 32

// The sum of the values of one row's threads, to all of them.
__device__ float row_sum(float mine) {
    __shared__ float all[THREADS];
    const int t = threadIdx.x, lane = t % LANES;
    for (int half = LANES / 2; half > 0; half /= 2) {
        all[t] = mine;
        __syncthreads();
        if (lane < half) mine += all[t + half];
        __syncthreads();
    }
    if (lane == 0) all[t] = mine;
    __syncthreads();
    mine = all[t - lane];
    __syncthreads();
    return mine;
}

// Statistics of rows a (n, c): y (n, 2). p.i = c; p.f = eps. All of a block's threads go through the sums.
KERNEL(row_statistics) {
    const int c_ = p.i[0], lane = threadIdx.x % LANES;
    const unsigned row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const bool mine = row < p.n;
    const float *x = a + (size_t)(mine ? row : 0) * c_;
    float sum = 0.f;
    for (int ch = lane; ch < c_; ch += LANES) sum += x[ch];
    const float mean = row_sum(sum) / c_;
    float squares = 0.f;
    for (int ch = lane; ch < c_; ch += LANES) squares += (x[ch] - mean) * (x[ch] - mean);
    squares = row_sum(squares);
    if (mine && lane == 0) {
        y[2 * (size_t)row] = mean;
        y[2 * (size_t)row + 1] = 1.f / sqrtf(squares / c_ + p.f[0]);
    }
}

// As group_gradients for layer norm: a = x (n, c), b = gradient, c = statistics (n, 2), d = affine (2, c); y (n, 4). p.i = c
KERNEL(row_gradients) {
    const int c_ = p.i[0], lane = threadIdx.x % LANES;
    const unsigned row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const bool mine = row < p.n;
    const size_t at = (size_t)(mine ? row : 0) * c_;
    const float mean = c[2 * (size_t)(mine ? row : 0)], deviation = c[2 * (size_t)(mine ? row : 0) + 1];
    float first = 0.f, second = 0.f;
    for (int ch = lane; ch < c_; ch += LANES) {
        const float g = b[at + ch] * d[c_ + ch];
        first += g;
        second += g * (a[at + ch] - mean) * deviation;
    }
    first = row_sum(first);
    second = row_sum(second);
    if (mine && lane == 0) {
        y[4 * (size_t)row] = mean;
        y[4 * (size_t)row + 1] = deviation;
        y[4 * (size_t)row + 2] = first / c_;
        y[4 * (size_t)row + 3] = second / c_;
    }
}

// ---- softmax of rows a (n, s) times a factor; p.i = s, p.f = factor ----

// A thread to each row, where rows are short.
KERNEL(softmax_short) {
    EACH(t);
    const int s = p.i[0];
    const float *x = a + (size_t)t * s;
    float *out = y + (size_t)t * s, most = x[0], sum = 0.f;
    for (int k = 1; k < s; k++) most = fmaxf(most, x[k]);
    for (int k = 0; k < s; k++) sum += expf((x[k] - most) * p.f[0]);
    for (int k = 0; k < s; k++) out[k] = expf((x[k] - most) * p.f[0]) / sum;
}

// Gradient of a from probabilities a and their gradient b.
KERNEL(softmax_gradient_short) {
    EACH(t);
    const int s = p.i[0];
    const size_t at = (size_t)t * s;
    float sum = 0.f;
    for (int k = 0; k < s; k++) sum += a[at + k] * b[at + k];
    for (int k = 0; k < s; k++) y[at + k] = p.f[0] * a[at + k] * (b[at + k] - sum);
}

__device__ float row_max(float mine) {
    __shared__ float all[THREADS];
    const int t = threadIdx.x, lane = t % LANES;
    for (int half = LANES / 2; half > 0; half /= 2) {
        all[t] = mine;
        __syncthreads();
        if (lane < half) mine = fmaxf(mine, all[t + half]);
        __syncthreads();
    }
    if (lane == 0) all[t] = mine;
    __syncthreads();
    mine = all[t - lane];
    __syncthreads();
    return mine;
}

// The factor is positive.
KERNEL(softmax_long) {
    const int s = p.i[0], lane = threadIdx.x % LANES;
    const unsigned row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const bool mine = row < p.n;
    const size_t at = (size_t)(mine ? row : 0) * s;
    float most = a[at];
    for (int k = lane; k < s; k += LANES) most = fmaxf(most, a[at + k]);
    most = row_max(most);
    float sum = 0.f;
    for (int k = lane; k < s; k += LANES) sum += expf((a[at + k] - most) * p.f[0]);
    const float scale = 1.f / row_sum(sum);
    if (mine)
        for (int k = lane; k < s; k += LANES) y[at + k] = expf((a[at + k] - most) * p.f[0]) * scale;
}

KERNEL(softmax_gradient_long) {
    const int s = p.i[0], lane = threadIdx.x % LANES;
    const unsigned row = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    const bool mine = row < p.n;
    const size_t at = (size_t)(mine ? row : 0) * s;
    float sum = 0.f;
    for (int k = lane; k < s; k += LANES) sum += a[at + k] * b[at + k];
    sum = row_sum(sum);
    if (mine)
        for (int k = lane; k < s; k += LANES) y[at + k] = p.f[0] * a[at + k] * (b[at + k] - sum);
}

// ---- GEGLU: a (rows, 2 h) -> y (rows, h), the first half times the GELU of the second; p.i = h ----

__device__ float gelu(float x) { return 0.5f * x * (1.f + erff(x * 0.70710678f)); }

KERNEL(geglu) {
    EACH(t);
    const unsigned h = p.i[0];
    const float *x = a + (size_t)(t / h) * 2 * h + t % h;
    y[t] = x[0] * gelu(x[h]);
}

// A work item is one of the result's elements, whose gradient is b.
KERNEL(geglu_gradient) {
    EACH(t);
    const unsigned h = p.i[0];
    const size_t at = (size_t)(t / h) * 2 * h + t % h;
    const float x = a[at], gate = a[at + h], g = b[t];
    const float density = 0.39894228f * expf(-0.5f * gate * gate), below = 0.5f * (1.f + erff(gate * 0.70710678f));
    y[at] = g * gate * below;
    y[at + h] = g * x * (below + gate * density);
}

// a (b, p, q, d) -> y (b, q, p, d): heads apart, and together again. p.i = p, q, d
KERNEL(swap_middle) {
    EACH(t);
    const unsigned first = p.i[0], second = p.i[1], d_ = p.i[2], ch = t % d_;
    unsigned r = t / d_;
    const unsigned i = r % first;
    r /= first;
    const unsigned j = r % second, m = r / second;
    y[t] = a[((size_t)(m * first + i) * second + j) * d_ + ch];
}

// ---- 3x3 maximum at stride 2 of a (m, h, w, c), sides rounded up; p.i = h, w, c, ho, wo ----

// Where the maximum of one window is, the first of equal ones.
__device__ size_t maximum_at(const Numbers &p, const float *a, unsigned m, int yo, int xo, unsigned ch) {
    const int h = p.i[0], w = p.i[1], c_ = p.i[2];
    size_t best = ((size_t)(m * h + 2 * yo) * w + 2 * xo) * c_ + ch;
    for (int row = 2 * yo; row < 2 * yo + 3 && row < h; row++)
        for (int x = 2 * xo; x < 2 * xo + 3 && x < w; x++) {
            const size_t at = ((size_t)(m * h + row) * w + x) * c_ + ch;
            if (a[at] > a[best]) best = at;
        }
    return best;
}

KERNEL(max_pool) {
    EACH(t);
    const unsigned c_ = p.i[2], ho = p.i[3], wo = p.i[4], ch = t % c_;
    unsigned r = t / c_;
    const unsigned xo = r % wo;
    r /= wo;
    y[t] = a[maximum_at(p, a, r / ho, r % ho, xo, ch)];
}

// Of a, with the gradient b of the result.
KERNEL(max_pool_gradient) {
    EACH(t);
    const int h = p.i[0], w = p.i[1], c_ = p.i[2], ho = p.i[3], wo = p.i[4];
    const unsigned ch = t % c_;
    unsigned r = t / c_;
    const int x = r % w;
    r /= w;
    const int row = r % h;
    const unsigned m = r / h;
    float sum = 0.f;
    for (int yo = row < 2 ? 0 : (row - 1) / 2; yo <= row / 2 && yo < ho; yo++)
        for (int xo = x < 2 ? 0 : (x - 1) / 2; xo <= x / 2 && xo < wo; xo++)
            if (maximum_at(p, a, m, yo, xo, ch) == t) sum += b[((size_t)(m * ho + yo) * wo + xo) * c_ + ch];
    y[t] = sum;
}

// ---- doubling: a (m, h, w, c); p.i = h, w, c ----

KERNEL(nearest2) {
    EACH(t);
    const unsigned h = p.i[0], w = p.i[1], c_ = p.i[2], ch = t % c_;
    unsigned r = t / c_;
    const unsigned x = r % (2 * w);
    r /= 2 * w;
    const unsigned row = r % (2 * h), m = r / (2 * h);
    y[t] = a[((size_t)(m * h + row / 2) * w + x / 2) * c_ + ch];
}

KERNEL(nearest2_gradient) {
    EACH(t);
    const unsigned h = p.i[0], w = p.i[1], c_ = p.i[2], ch = t % c_;
    unsigned r = t / c_;
    const unsigned x = r % w;
    r /= w;
    const unsigned row = r % h, m = r / h;
    const float *at = a + ((size_t)(m * 2 * h + 2 * row) * 2 * w + 2 * x) * c_ + ch;
    y[t] = at[0] + at[c_] + at[(size_t)2 * w * c_] + at[(size_t)2 * w * c_ + c_];
}

// Half-pixel centres, edges clamped: three quarters of the pixel it lies in, one quarter of the nearer neighbour.
KERNEL(bilinear2) {
    EACH(t);
    const int h = p.i[0], w = p.i[1], c_ = p.i[2];
    const unsigned ch = t % c_;
    unsigned r = t / c_;
    const int x = r % (2 * w);
    r /= 2 * w;
    const int row = r % (2 * h);
    const unsigned m = r / (2 * h);
    const int near_x = x / 2, near_y = row / 2;
    const int side_x = x % 2 ? near_x + 1 : near_x - 1, side_y = row % 2 ? near_y + 1 : near_y - 1;
    const int far_x = side_x < 0 ? 0 : side_x < w ? side_x : w - 1, far_y = side_y < 0 ? 0 : side_y < h ? side_y : h - 1;
    const float *of = a + (size_t)m * h * w * c_ + ch;
    const float near_row = 0.75f * of[(size_t)(near_y * w + near_x) * c_] + 0.25f * of[(size_t)(near_y * w + far_x) * c_];
    const float far_row = 0.75f * of[(size_t)(far_y * w + near_x) * c_] + 0.25f * of[(size_t)(far_y * w + far_x) * c_];
    y[t] = 0.75f * near_row + 0.25f * far_row;
}

// What pixel `from` of the doubled side gave to pixel `to`: the pixels that lie in it, and those beside.
__device__ float share(int from, int to, int side) {
    if (from < 0 || from >= 2 * side) return 0.f;
    const int near_ = from / 2, beside = from % 2 ? near_ + 1 : near_ - 1;
    const int far_ = beside < 0 ? 0 : beside < side ? beside : side - 1;
    return (near_ == to ? 0.75f : 0.f) + (far_ == to ? 0.25f : 0.f);
}

KERNEL(bilinear2_gradient) {
    EACH(t);
    const int h = p.i[0], w = p.i[1], c_ = p.i[2];
    const unsigned ch = t % c_;
    unsigned r = t / c_;
    const int x = r % w;
    r /= w;
    const int row = r % h;
    const unsigned m = r / h;
    const float *of = a + (size_t)m * 4 * h * w * c_ + ch;
    float sum = 0.f;
    for (int j = 2 * row - 1; j <= 2 * row + 2; j++) {
        const float down = share(j, row, h);
        if (down == 0.f) continue;
        for (int i = 2 * x - 1; i <= 2 * x + 2; i++) {
            const float across = share(i, x, w);
            if (across != 0.f) sum += down * across * of[(size_t)(j * 2 * w + i) * c_];
        }
    }
    y[t] = sum;
}
