/* A libcuda.so.1 whose one device cannot be used: RESULT is what it answers, as CUresult codes it. With NOTHING it has no
 * functions at all; AT_INIT is what it answers before it says what devices there are. The other libraries of CUDA are only loaded, so any library stands in for them. */
#ifdef NOTHING
int nothing;
#else
int cuInit(unsigned flags) { (void)flags; return AT_INIT; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int number) { *device = number; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = 0; (void)device; return RESULT; }
int cuGetErrorString(int code, const char **text) { (void)code; *text = "as the test wishes"; return 0; }
int cuGetErrorName(int code, const char **text) { (void)code; *text = "THE_TESTS_WISH"; return 0; }
#endif
