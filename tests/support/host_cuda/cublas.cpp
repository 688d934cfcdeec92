// The part of cuBLAS that products use, by columns as there, on the host.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

struct Call {
  int ta, tb, m, n, k;
  const void *a, *b;
  void *c;
  int type, lda, ldb, ldc;
  long long sa, sb, sc;
  int count, precision;
};
static std::vector<Call> recorded;
static bool recording;
static size_t workspace;
static void *stream;

template <class T, class S> static void multiply(const Call &call) {
  std::vector<S> first((size_t)call.m * call.k), sums(call.m);
  for (int item = 0; item < call.count; ++item) {
    const T *a = (const T *)call.a + item * call.sa, *b = (const T *)call.b + item * call.sb;
    for (int l = 0; l < call.k; ++l)
      for (int i = 0; i < call.m; ++i)
        first[(size_t)l * call.m + i] = (S)a[call.ta ? l + (long long)i * call.lda : i + (long long)l * call.lda];
    for (int j = 0; j < call.n; ++j) {
      std::fill(sums.begin(), sums.end(), S(0));
      for (int l = 0; l < call.k; ++l) {
        S factor = (S)b[call.tb ? j + (long long)l * call.ldb : l + (long long)j * call.ldb];
        const S *column = &first[(size_t)l * call.m];
        for (int i = 0; i < call.m; ++i) sums[i] += column[i] * factor;
      }
      T *c = (T *)call.c + item * call.sc + (long long)j * call.ldc;
      for (int i = 0; i < call.m; ++i) c[i] = (T)sums[i];
    }
  }
}

static void run(const Call &call) {
  if (call.type == 1) multiply<double, double>(call);
  if (call.type == 0) multiply<float, float>(call);
  if (call.type == 2) multiply<_Float16, float>(call);
}

extern "C" {
int cublasCreate_v2(void **handle) { *handle = &recorded; return 0; }
int cublasDestroy_v2(void *handle) { return handle == &recorded ? 0 : 1; }
int cublasSetStream_v2(void *handle, void *given) { stream = given; return handle == &recorded ? 0 : 1; }
int cublasSetWorkspace_v2(void *handle, void *memory, size_t size) {
  workspace = size;
  return handle == &recorded && memory && (size_t)memory % 256 == 0 ? 0 : 7;
}
int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int ta_type,
                               int lda, long long sa, const void *b, int tb_type, int ldb, long long sb, const void *beta, void *c,
                               int tc_type, int ldc, long long sc, int count, int precision, int algorithm) {
  if (handle != &recorded || !workspace) return 1;
  double one = precision == 70 ? *(const double *)alpha : *(const float *)alpha;
  double zero = precision == 70 ? *(const double *)beta : *(const float *)beta;
  bool fits = lda >= (ta ? k : m) && ldb >= (tb ? n : k) && ldc >= m && lda > 0 && ldb > 0;
  bool types = ta_type == tb_type && tb_type == tc_type && precision == (ta_type == 1 ? 70 : precision == 77 ? 77 : 68);
  if (!fits || !types || one != 1 || zero != 0 || algorithm != -1 || m < 1 || n < 1 || k < 1 || count < 1) return 7;
  Call call{ta, tb, m, n, k, a, b, c, ta_type, lda, ldb, ldc, sa, sb, sc, count, precision};
  if (recording) recorded.push_back(call);
  else run(call);
  return 0;
}
void stand_in_record(int on) { recording = on; }
int stand_in_recorded() { return (int)recorded.size(); }
void stand_in_replay(int position) { run(recorded[position]); }
void *stand_in_stream() { return stream; }
}
