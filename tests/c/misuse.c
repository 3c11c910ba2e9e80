/* Everything that can be done wrong with every function, and that nothing breaks by it.
 *
 *   misuse MODEL OTHER_MODEL FOLDER
 *
 * MODEL has a noise mapping and a labeler, OTHER_MODEL has neither and other weights but the same classes; FOLDER is for files. */
#include <ca2sis.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int checks, failures;

static void check(int ok, int line, const char *what) {
    checks++;
    if (!ok) {
        failures++;
        fprintf(stderr, "line %d: %s (%s)\n", line, what, ca2_last_error());
    }
}
#define CHECK(condition) check((condition), __LINE__, #condition)
/* The call returns this status, and says why where it failed. */
#define EXPECT(status, call)                                                       \
    do {                                                                           \
        const ca2_status got_ = (call);                                            \
        check(got_ == (status), __LINE__, #call " is not " #status);               \
        check((got_ == CA2_OK) == (ca2_last_error()[0] == '\0'), __LINE__, #call); \
    } while (0)
#define SAYS(text) CHECK(strstr(ca2_last_error(), (text)) != NULL)

enum { W = 24, H = 17, N = W * H };

static uint8_t pixels[N * 3], labels[N], before[N * 3], out[N * 3];
static ca2_image_view content;
static ca2_image_view_mut output;
static ca2_label_view map;
static ca2_context *context;
static ca2_model *model;
static ca2_style *style;

static int untouched(void) {
    for (size_t i = 0; i < sizeof out; i++)
        if (out[i] != 0xA5) return 0;
    return 1;
}

static void reset(void) { memset(out, 0xA5, sizeof out); }

static ca2_status restyle(const ca2_restyle_options *options) {
    return ca2_restyle(model, &content, &map, style, options, &output, NULL);
}

static void nulls(const char *path) {
    ca2_context *c = (ca2_context *)(uintptr_t)16;
    ca2_model *m = (ca2_model *)(uintptr_t)16;
    ca2_style *s = (ca2_style *)(uintptr_t)16;
    ca2_device_info device = CA2_DEVICE_INFO_INIT;
    ca2_model_info info = CA2_MODEL_INFO_INIT;
    ca2_class_info class_info = CA2_CLASS_INFO_INIT;
    const char *text = "x";
    uint32_t number;
    size_t size = 0;
    const ca2_status bad = CA2_INVALID_ARGUMENT;

    EXPECT(bad, ca2_context_create(NULL, NULL));
    SAYS("out");
    EXPECT(bad, ca2_device_count(NULL));
    EXPECT(bad, ca2_device_get(0, NULL));
    EXPECT(bad, ca2_device_get(SIZE_MAX, &device));
    EXPECT(bad, ca2_context_device(NULL, &device));
    EXPECT(bad, ca2_context_device(context, NULL));

    EXPECT(bad, ca2_model_open(NULL, path, &m));
    CHECK(m == NULL);
    SAYS("context");
    EXPECT(bad, ca2_model_open(context, NULL, &m));
    SAYS("path");
    EXPECT(bad, ca2_model_open(context, "", &m));
    EXPECT(bad, ca2_model_open(context, path, NULL));
    EXPECT(bad, ca2_model_open_default(NULL, &m));
    EXPECT(bad, ca2_model_open_default(context, NULL));
    EXPECT(bad, ca2_model_open_memory(NULL, "x", 1, &m));
    EXPECT(bad, ca2_model_open_memory(context, NULL, 1, &m));
    EXPECT(bad, ca2_model_open_memory(context, "x", SIZE_MAX, &m));
    EXPECT(CA2_BAD_DATA, ca2_model_open_memory(context, "x", 0, &m));
    EXPECT(CA2_BAD_DATA, ca2_model_open_memory(context, "x", 1, &m));
    EXPECT(CA2_IO, ca2_model_open(context, "/nowhere/model.safetensors", &m));
    SAYS("/nowhere/model.safetensors");
    EXPECT(CA2_BAD_DATA, ca2_model_open(context, "/", &m));
    EXPECT(bad, ca2_model_get_info(NULL, &info));
    EXPECT(bad, ca2_model_get_info(model, NULL));
    EXPECT(bad, ca2_model_get_class(NULL, 0, &class_info));
    EXPECT(bad, ca2_model_get_class(model, 0, NULL));
    EXPECT(bad, ca2_model_get_class(model, 3, &class_info));
    EXPECT(bad, ca2_model_get_class(model, UINT32_MAX, &class_info));
    EXPECT(bad, ca2_model_find_class(NULL, "sky", &number));
    EXPECT(bad, ca2_model_find_class(model, NULL, &number));
    EXPECT(bad, ca2_model_find_class(model, "sky", NULL));
    EXPECT(bad, ca2_model_find_class(model, "\xff", &number));
    EXPECT(bad, ca2_model_find_class(model, "no such class", &number));
    SAYS("sky");
    EXPECT(bad, ca2_model_fingerprint(NULL, &text));
    CHECK(text == NULL);
    EXPECT(bad, ca2_model_fingerprint(model, NULL));

    EXPECT(bad, ca2_style_extract(NULL, &content, &map, NULL, &s));
    CHECK(s == NULL);
    EXPECT(bad, ca2_style_extract(model, NULL, &map, NULL, &s));
    SAYS("reference");
    EXPECT(bad, ca2_style_extract(model, &content, NULL, NULL, &s));
    SAYS("labels");
    EXPECT(bad, ca2_style_extract(model, &content, &map, NULL, NULL));
    EXPECT(bad, ca2_style_mix(NULL, 1, NULL, &s));
    EXPECT(bad, ca2_style_mix(NULL, 0, NULL, &s));
    const ca2_style *none[] = {NULL};
    EXPECT(bad, ca2_style_mix(none, 1, NULL, &s));
    SAYS("styles[0]");
    EXPECT(bad, ca2_style_mix(none, SIZE_MAX, NULL, &s));
    const ca2_style *one[] = {style};
    EXPECT(bad, ca2_style_mix(one, 1, NULL, NULL));
    EXPECT(bad, ca2_style_has_class(NULL, 0, &number));
    EXPECT(bad, ca2_style_has_class(style, 0, NULL));
    EXPECT(bad, ca2_style_has_class(style, 3, &number));
    EXPECT(bad, ca2_style_save(NULL, path));
    EXPECT(bad, ca2_style_save(style, NULL));
    EXPECT(CA2_IO, ca2_style_save(style, "/nowhere/a.style"));
    EXPECT(bad, ca2_style_save_memory(NULL, NULL, &size));
    EXPECT(bad, ca2_style_save_memory(style, NULL, NULL));
    EXPECT(bad, ca2_style_open(NULL, path, &s));
    EXPECT(bad, ca2_style_open(model, NULL, &s));
    EXPECT(bad, ca2_style_open(model, path, NULL));
    EXPECT(CA2_IO, ca2_style_open(model, "/nowhere/a.style", &s));
    EXPECT(CA2_BAD_DATA, ca2_style_open(model, path, &s)); /* a model is no style */
    EXPECT(bad, ca2_style_open_memory(NULL, "x", 1, &s));
    EXPECT(bad, ca2_style_open_memory(model, NULL, 1, &s));
    EXPECT(CA2_BAD_DATA, ca2_style_open_memory(model, "x", 0, &s));

    EXPECT(bad, ca2_restyle(NULL, &content, &map, style, NULL, &output, NULL));
    SAYS("model");
    EXPECT(bad, ca2_restyle(model, NULL, &map, style, NULL, &output, NULL));
    SAYS("content");
    EXPECT(bad, ca2_restyle(model, &content, NULL, style, NULL, &output, NULL));
    SAYS("labels");
    EXPECT(bad, ca2_restyle(model, &content, &map, NULL, NULL, &output, NULL));
    SAYS("style");
    EXPECT(bad, ca2_restyle(model, &content, &map, style, NULL, NULL, NULL));
    SAYS("output");
    uint64_t needed;
    EXPECT(bad, ca2_restyle_plan(NULL, &content, &map, style, NULL, 0, &needed));
    EXPECT(bad, ca2_restyle_plan(model, NULL, &map, style, NULL, 0, &needed));
    EXPECT(bad, ca2_restyle_plan(model, &content, NULL, style, NULL, 0, &needed));
    EXPECT(bad, ca2_restyle_plan(model, &content, &map, NULL, NULL, 0, &needed));
    EXPECT(bad, ca2_restyle_plan(model, &content, &map, style, NULL, 0, NULL));
    EXPECT(bad, ca2_style_extract_plan(NULL, &content, &map, NULL, &needed));
    EXPECT(bad, ca2_style_extract_plan(model, NULL, &map, NULL, &needed));
    EXPECT(bad, ca2_style_extract_plan(model, &content, NULL, NULL, &needed));
    EXPECT(bad, ca2_style_extract_plan(model, &content, &map, NULL, NULL));
    EXPECT(bad, ca2_synthesize_plan(NULL, &map, NULL, &output, &needed));
    EXPECT(bad, ca2_synthesize_plan(model, NULL, NULL, &output, &needed));
    EXPECT(bad, ca2_synthesize_plan(model, &map, NULL, NULL, &needed));
    EXPECT(bad, ca2_synthesize_plan(model, &map, NULL, &output, NULL));
    EXPECT(bad, ca2_synthesize(NULL, &map, style, NULL, &output));
    EXPECT(bad, ca2_synthesize(model, NULL, style, NULL, &output));
    EXPECT(bad, ca2_synthesize(model, &map, style, NULL, NULL));
    ca2_image_view_mut maps[3] = {{NULL, 1, 1, 0, 0, 0, 0}, {NULL, 1, 1, 0, 0, 0, 0}, {NULL, 1, 1, 0, 0, 0, 0}};
    EXPECT(bad, ca2_attention(NULL, &map, style, NULL, maps, 3));
    EXPECT(bad, ca2_attention(model, NULL, style, NULL, maps, 3));
    EXPECT(bad, ca2_attention(model, &map, NULL, NULL, maps, 3));
    EXPECT(bad, ca2_attention(model, &map, style, NULL, NULL, 3));
    EXPECT(bad, ca2_attention(model, &map, style, NULL, maps, 2));
    EXPECT(bad, ca2_attention(model, &map, style, NULL, maps, SIZE_MAX));
    EXPECT(bad, ca2_attention_plan(NULL, &map, maps, 3, &needed));
    EXPECT(bad, ca2_attention_plan(model, NULL, maps, 3, &needed));
    EXPECT(bad, ca2_attention_plan(model, &map, NULL, 3, &needed));
    EXPECT(bad, ca2_attention_plan(model, &map, maps, 2, &needed));
    EXPECT(bad, ca2_attention_plan(model, &map, maps, SIZE_MAX, &needed));
    EXPECT(bad, ca2_attention_plan(model, &map, maps, 3, NULL));
    uint8_t proposed[N];
    memset(proposed, 0xA5, sizeof proposed);
    const ca2_label_view_mut to = {proposed, W, H, CA2_LABEL_U8, 0, 0, 0};
    EXPECT(bad, ca2_label(NULL, &content, NULL, &to, NULL));
    EXPECT(bad, ca2_label(model, NULL, NULL, &to, NULL));
    SAYS("picture");
    EXPECT(bad, ca2_label(model, &content, NULL, NULL, NULL));
    SAYS("labels");
    EXPECT(bad, ca2_label_plan(NULL, &content, NULL, &to, &needed));
    EXPECT(bad, ca2_label_plan(model, NULL, NULL, &to, &needed));
    EXPECT(bad, ca2_label_plan(model, &content, NULL, NULL, &needed));
    EXPECT(bad, ca2_label_plan(model, &content, NULL, &to, NULL));
    CHECK(proposed[0] == 0xA5);
    CHECK(untouched());

    CHECK(ca2_context_retain(NULL) == NULL && ca2_model_retain(NULL) == NULL && ca2_style_retain(NULL) == NULL);
    ca2_context_release(NULL);
    ca2_model_release(NULL);
    ca2_style_release(NULL);
    CHECK(c == (ca2_context *)(uintptr_t)16);
}

/* struct_size of every sized struct: too small, absurd, larger with a surplus of zeros, larger with something in it. */
static void sizes(void) {
    struct {
        ca2_context_options options;
        uint64_t more;
    } large = {CA2_CONTEXT_OPTIONS_INIT, 0};
    ca2_context *c;
    large.options.device = CA2_DEVICE_CPU;
    large.options.threads = 1;
    large.options.struct_size = sizeof large;
    EXPECT(CA2_OK, ca2_context_create(&large.options, &c));
    ca2_context_release(c);
    large.more = 1;
    EXPECT(CA2_UNSUPPORTED, ca2_context_create(&large.options, &c));
    CHECK(c == NULL);
    for (size_t i = 0; i < offsetof(ca2_context_options, precision); i++) { /* less than it began with */
        large.options.struct_size = i;
        EXPECT(CA2_INVALID_ARGUMENT, ca2_context_create(&large.options, &c));
    }
    large.options.struct_size = offsetof(ca2_context_options, precision); /* an older caller has no such field */
    large.options.precision = 77;
    large.options.reserved = 77;
    EXPECT(CA2_OK, ca2_context_create(&large.options, &c));
    ca2_context_release(c);
    large.options.struct_size = SIZE_MAX;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_context_create(&large.options, &c));

    struct {
        ca2_restyle_options options;
        uint64_t more;
    } job = {CA2_RESTYLE_OPTIONS_INIT, 0};
    job.options.struct_size = sizeof job;
    EXPECT(CA2_OK, restyle(&job.options));
    reset();
    job.more = 1;
    EXPECT(CA2_UNSUPPORTED, restyle(&job.options));
    job.options.struct_size = 0;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job.options));
    job.options.struct_size = offsetof(ca2_restyle_options, content_style) - 1; /* less than it began with */
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job.options));

    ca2_extract_options extract = {3, NULL, NULL};
    ca2_style *s;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_style_extract(model, &content, &map, &extract, &s));
    ca2_synthesize_options synthesize = CA2_SYNTHESIZE_OPTIONS_INIT;
    synthesize.struct_size--;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_synthesize(model, &map, style, &synthesize, &output));
    ca2_attention_options attention = CA2_ATTENTION_OPTIONS_INIT;
    attention.struct_size--;
    ca2_image_view_mut maps[3];
    maps[0] = maps[1] = maps[2] = output;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_attention(model, &map, style, &attention, maps, 3));
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    report.struct_size = 8;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_restyle(model, &content, &map, style, NULL, &output, &report));
    ca2_device_info device = {0, 0, 0, 0, NULL, NULL};
    EXPECT(CA2_INVALID_ARGUMENT, ca2_device_get(0, &device));
    EXPECT(CA2_INVALID_ARGUMENT, ca2_context_device(context, &device));
    ca2_model_info info = {1, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0};
    EXPECT(CA2_INVALID_ARGUMENT, ca2_model_get_info(model, &info));
    CHECK(info.struct_size == 1 && info.class_count == 0);
    ca2_class_info class_info = {7, NULL, NULL, 0, {0, 0, 0, 0}};
    EXPECT(CA2_INVALID_ARGUMENT, ca2_model_get_class(model, 0, &class_info));
    CHECK(untouched());
}

static void codes(void) {
    ca2_context *c;
    ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
    options.device = 4;
    EXPECT(CA2_UNSUPPORTED, ca2_context_create(&options, &c));
    options.device = CA2_DEVICE_CPU;
    options.device_number = 1;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_context_create(&options, &c));
    options.device_number = 0;
    options.log_level = 5;
    EXPECT(CA2_UNSUPPORTED, ca2_context_create(&options, &c));
    options.log_level = 0;
    options.threads = UINT32_MAX;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_context_create(&options, &c));
    options.threads = 1;
    options.precision = CA2_PRECISION_AUTO + 1;
    EXPECT(CA2_UNSUPPORTED, ca2_context_create(&options, &c));
    SAYS("precision is 5: this version knows CA2_PRECISION_* 0 to 4");
    options.precision = CA2_PRECISION_F32;
    options.reserved = 1;
    EXPECT(CA2_UNSUPPORTED, ca2_context_create(&options, &c));
    SAYS("reserved is 1");
    options.reserved = 0;
    options.device = CA2_DEVICE_CUDA;
    options.device_number = 4000;
    EXPECT(CA2_DEVICE, ca2_context_create(&options, &c));

    const ca2_image_view kept = content;
    const uint32_t strange[] = {0, 1, 0x10, 0x15, 0x51, 0x113, UINT32_MAX};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        content.format = strange[i];
        EXPECT(CA2_UNSUPPORTED, restyle(NULL));
        SAYS("content");
    }
    content = kept;
    content.transfer = 2;
    EXPECT(CA2_UNSUPPORTED, restyle(NULL));
    content = kept;
    const ca2_label_view kept_map = map;
    const uint32_t strange_labels[] = {0, 5, UINT32_MAX};
    for (size_t i = 0; i < sizeof strange_labels / sizeof *strange_labels; i++) {
        map.format = strange_labels[i];
        EXPECT(CA2_UNSUPPORTED, restyle(NULL));
        SAYS("labels");
    }
    map = kept_map;
    map.reserved = 1;
    EXPECT(CA2_UNSUPPORTED, restyle(NULL));
    map = kept_map;

    ca2_restyle_options job = CA2_RESTYLE_OPTIONS_INIT;
    job.fields = UINT64_C(1) << 63;
    EXPECT(CA2_UNSUPPORTED, restyle(&job));
    job.fields = 0;
    job.strength = 0.5f; /* without its bit */
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    SAYS("fields");
    job.fields = CA2_RESTYLE_STRENGTH;
    const float wild[] = {-0.1f, 1.1f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        job.strength = wild[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    }
    job.strength = 1.0f;
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        job.coupling = wild[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
        SAYS("coupling");
    }
    job.coupling = 0.0f;
    job.morph = 0.5f; /* without its bit */
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    job.morph = 0.0f;
    const uint32_t strange_methods[] = {2, UINT32_MAX};
    for (size_t i = 0; i < 2; i++) {
        job.method = strange_methods[i];
        EXPECT(CA2_UNSUPPORTED, restyle(&job));
        SAYS("method");
    }
    job.method = CA2_METHOD_STATISTICS;
    job.target_labels = &map; /* statistics draw no shapes */
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    SAYS("target labels");
    job.target_labels = NULL;
    job.method = CA2_METHOD_NETWORK;
    job.confidence = 2;
    EXPECT(CA2_UNSUPPORTED, restyle(&job));
    SAYS("confidence");
    job.confidence = 0;
    job.reserved = 1;
    EXPECT(CA2_UNSUPPORTED, restyle(&job));
    job.reserved = 0;
    uint64_t needed = 7;
    EXPECT(CA2_UNSUPPORTED, ca2_restyle_plan(model, &content, &map, style, &job, 2, &needed));
    CHECK(needed == 7);
    ca2_class_strength classes[] = {{0, 1.0f}, {3, 1.0f}};
    job.class_count = 2;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job)); /* classes is NULL */
    job.classes = classes;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job)); /* class 3 */
    job.class_count = SIZE_MAX;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    job.class_count = 2;
    classes[1].index = 0; /* the same class twice */
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    SAYS("twice");
    job.class_count = 1;
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        classes[0].strength = wild[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(&job));
    }

    ca2_synthesize_options synthesize = CA2_SYNTHESIZE_OPTIONS_INIT;
    synthesize.morph = 0.5f; /* without a target */
    EXPECT(CA2_INVALID_ARGUMENT, ca2_synthesize(model, &map, style, &synthesize, &output));
    synthesize.target_labels = &map;
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        synthesize.morph = wild[i];
        EXPECT(CA2_INVALID_ARGUMENT, ca2_synthesize(model, &map, style, &synthesize, &output));
    }
    ca2_attention_options attention = CA2_ATTENTION_OPTIONS_INIT;
    attention.stage = 1000;
    ca2_image_view_mut maps[3];
    memset(maps, 0, sizeof maps);
    EXPECT(CA2_INVALID_ARGUMENT, ca2_attention(model, &map, style, &attention, maps, 3));
    CHECK(untouched());
    CHECK(strcmp(ca2_status_name(CA2_CANCELLED), "CA2_CANCELLED") == 0);
    CHECK(strcmp(ca2_status_name(-1), "unknown status") == 0);
}

static void views(void) {
    const ca2_image_view kept = content;
    const ca2_image_view_mut kept_output = output;
    const ca2_label_view kept_map = map;
    const uint32_t bad_sizes[][2] = {{0, H}, {W, 0}, {0, 0}, {UINT32_MAX, UINT32_MAX}, {1u << 31, 1}, {1u << 16, 1u << 16}};
    for (size_t i = 0; i < sizeof bad_sizes / sizeof *bad_sizes; i++) {
        content.width = bad_sizes[i][0], content.height = bad_sizes[i][1];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
        content = kept;
        map.width = bad_sizes[i][0], map.height = bad_sizes[i][1];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
        map = kept_map;
        output.width = bad_sizes[i][0], output.height = bad_sizes[i][1];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
        EXPECT(CA2_INVALID_ARGUMENT, ca2_synthesize(model, &map, style, NULL, &output));
        output = kept_output;
    }
    content.data = NULL;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    content = kept;
    output.data = NULL;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    output = kept_output;
    map.data = NULL;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    map = kept_map;

    const int64_t bad_rows[] = {1, -1, W * 3 - 1, -(W * 3 - 1), INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof bad_rows / sizeof *bad_rows; i++) {
        content.row_stride = bad_rows[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
        content = kept;
        output.row_stride = bad_rows[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
        output = kept_output;
    }
    const int64_t bad_pixels[] = {1, -1, 2, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof bad_pixels / sizeof *bad_pixels; i++) {
        content.pixel_stride = bad_pixels[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
        content = kept;
    }

    /* An output with its rows in each other: columns one after another. */
    output.row_stride = 3;
    output.pixel_stride = 3 * H;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    SAYS("output");
    output = kept_output;

    /* Sizes and forms that do not fit each other. */
    map.width--;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    map = kept_map;
    output.height--;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    output = kept_output;
    output.format = CA2_PIXEL_GRAY_U8;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    output = kept_output;
    output.transfer = CA2_TRANSFER_LINEAR;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    output = kept_output;

    /* The output over an input, by one byte. */
    static uint8_t both[N * 3 + N];
    memset(both, 0, sizeof both);
    output.data = both;
    map.data = both + N * 3 - 1;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    SAYS("overlaps");
    EXPECT(CA2_INVALID_ARGUMENT, ca2_synthesize(model, &map, style, NULL, &output));
    map = kept_map;
    content.data = both + 3;
    content.height = output.height = map.height = H - 1;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    SAYS("overlaps");
    for (size_t i = 0; i < sizeof both; i++) CHECK(both[i] == 0);
    content = kept;
    output = kept_output;
    map = kept_map;
    ca2_image_view_mut maps[3];
    memset(maps, 0, sizeof maps);
    maps[0] = maps[2] = output;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_attention(model, &map, style, NULL, maps, 3));
    SAYS("maps[0]");

    /* A mask of another size, in colour, and with values that are none. */
    float mask_values[N];
    for (int i = 0; i < N; i++) mask_values[i] = 0.5f;
    ca2_image_view mask = {mask_values, W, H, CA2_PIXEL_GRAY_F32, 0, 0, 0};
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.mask = &mask;
    mask.width--;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&options));
    SAYS("mask");
    mask = content;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&options));
    mask.data = mask_values;
    mask.format = CA2_PIXEL_GRAY_F32;
    const float wild[] = {-0.5f, 1.5f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        mask_values[N / 2] = wild[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(&options));
        SAYS("mask");
    }
    CHECK(untouched());
    mask_values[N / 2] = 1.0f;
    EXPECT(CA2_OK, restyle(&options));
    reset();

    /* A confidence map of another size, in colour, of no format, over anything else, or of a method that has none. */
    static float confidence[N];
    const ca2_image_view_mut good = {confidence, W, H, CA2_PIXEL_GRAY_F32, 0, 0, 0};
    ca2_image_view_mut doubt = good;
    ca2_restyle_options doubting = CA2_RESTYLE_OPTIONS_INIT;
    doubting.confidence_map = &doubt;
    doubt.height--;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&doubting));
    SAYS("confidence_map");
    doubt.height = 0;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&doubting));
    doubt = kept_output;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&doubting));
    SAYS("gray");
    doubt = good;
    doubt.format = 0;
    EXPECT(CA2_UNSUPPORTED, restyle(&doubting));
    doubt = good;
    doubt.data = NULL;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&doubting));
    doubt.format = CA2_PIXEL_GRAY_U8;
    void *const taken[] = {out, pixels, labels, mask_values};
    mask_values[N / 2] = 1.0f;
    doubting.mask = &mask;
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        doubt.data = taken[i];
        EXPECT(CA2_INVALID_ARGUMENT, restyle(&doubting));
        SAYS("overlaps");
    }
    doubting.mask = NULL;
    doubt = good;
    doubting.method = CA2_METHOD_STATISTICS;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&doubting));
    SAYS("confidence_map");
    for (int i = 0; i < N; i++) CHECK(confidence[i] == 0.0f);

    /* Labels beyond the classes, in every form. */
    uint16_t labels16[N];
    uint32_t labels32[N];
    uint8_t colors[N * 3];
    for (int i = 0; i < N; i++) {
        labels16[i] = labels32[i] = labels[i];
        memset(colors + i * 3, 0, 3);
    }
    const uint8_t kept_label = labels[5];
    labels[5] = 3;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    SAYS("1 pixels");
    labels[5] = kept_label;
    labels16[5] = 256; /* not class 0 */
    map.data = labels16, map.format = CA2_LABEL_U16;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    labels32[5] = 65536; /* not class 0 */
    map.data = labels32, map.format = CA2_LABEL_U32;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    colors[15] = 100, colors[16] = 200, colors[17] = 100;
    map.data = colors, map.format = CA2_LABEL_RGB_U8;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(NULL));
    map = kept_map;
    CHECK(untouched());
}

/* Float pixels of any value go through, and stay where nothing is to change. */
static void wild_pixels(void) {
    float wild[N * 3], result[N * 3];
    const float values[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0.5f, -0.0f};
    for (int i = 0; i < N * 3; i++) wild[i] = values[i % 7];
    const ca2_image_view from = {wild, W, H, CA2_PIXEL_RGB_F32, 0, 0, 0};
    const ca2_image_view_mut to = {result, W, H, CA2_PIXEL_RGB_F32, 0, 0, 0};
    ca2_class_strength only = {0, 1.0f};
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.classes = &only;
    options.class_count = 1;
    ca2_style *s;
    EXPECT(CA2_OK, ca2_style_extract(model, &from, &map, NULL, &s));
    EXPECT(CA2_OK, ca2_restyle(model, &from, &map, s, &options, &to, NULL));
    int same = 1;
    for (int i = 0; i < N; i++)
        if (labels[i] != 0) same &= memcmp(&wild[i * 3], &result[i * 3], 3 * sizeof(float)) == 0;
    CHECK(same);
    ca2_style_release(s);
}

/* The same picture with rows from the bottom up, pixels from right to left, and gaps: the same result, gaps untouched. */
static void strides(void) {
    EXPECT(CA2_OK, restyle(NULL));
    CHECK(!untouched());
    static uint8_t wide[H * (W * 5 + 7)], wide_out[H * (W * 5 + 7)];
    const int64_t row = W * 5 + 7;
    for (int flip = 0; flip < 4; flip++) {
        memset(wide, 0, sizeof wide);
        memset(wide_out, 0xA5, sizeof wide_out);
        const int64_t row_stride = flip & 1 ? -row : row, pixel_stride = flip & 2 ? -5 : 5;
        const int64_t first = (flip & 1 ? row * (H - 1) : 0) + (flip & 2 ? 5 * (W - 1) : 0);
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++)
                memcpy(wide + first + y * row_stride + x * pixel_stride, pixels + (y * W + x) * 3, 3);
        const ca2_image_view from = {wide + first, W, H, CA2_PIXEL_RGB_U8, 0, row_stride, pixel_stride};
        const ca2_image_view_mut to = {wide_out + first, W, H, CA2_PIXEL_RGB_U8, 0, row_stride, pixel_stride};
        EXPECT(CA2_OK, ca2_restyle(model, &from, &map, style, NULL, &to, NULL));
        int same = 1;
        size_t touched = 0;
        for (int y = 0; y < H; y++)
            for (int x = 0; x < W; x++) {
                const uint8_t *pixel = wide_out + first + y * row_stride + x * pixel_stride;
                same &= memcmp(pixel, out + (y * W + x) * 3, 3) == 0;
                touched += pixel[3] != 0xA5 || pixel[4] != 0xA5;
            }
        CHECK(same && touched == 0);
    }
    /* In place. */
    memcpy(before, pixels, sizeof pixels);
    const ca2_image_view_mut itself = {pixels, W, H, CA2_PIXEL_RGB_U8, 0, 0, 0};
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, NULL, &itself, NULL));
    CHECK(memcmp(pixels, out, sizeof out) == 0);
    memcpy(pixels, before, sizeof pixels);
    reset();
}

/* Every pixel format and transfer: what is not asked for stays bit for bit, and alpha always. */
static void formats(void) {
    static uint8_t from_bytes[N * 16], to_bytes[N * 16];
    ca2_class_strength only = {1, 1.0f};
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.classes = &only;
    options.class_count = 1;
    const uint32_t sizes[] = {0, 1, 2, 2, 4};
    for (uint32_t kind = 1; kind <= 4; kind++)
        for (uint32_t channels = 1; channels <= 4; channels++)
            for (uint32_t transfer = 0; transfer <= 1; transfer++) {
                const size_t sample = sizes[kind], pixel = sample * channels;
                for (size_t i = 0; i < N * channels; i++) {
                    const float v = (float)((i * 37) % 101) / 100.0f;
                    const uint16_t wide = (uint16_t)(v * 65535.0f);
                    const uint16_t half = (uint16_t)(0x3000 + (i * 37) % 1000); /* 0.125 to 0.25 */
                    if (kind == 1) from_bytes[i] = (uint8_t)(v * 255.0f);
                    if (kind == 2) memcpy(from_bytes + i * 2, &wide, 2);
                    if (kind == 3) memcpy(from_bytes + i * 2, &half, 2);
                    if (kind == 4) memcpy(from_bytes + i * 4, &v, 4);
                }
                const uint32_t format = kind << 4 | channels;
                const ca2_image_view from = {from_bytes, W, H, format, transfer, 0, 0};
                const ca2_image_view_mut to = {to_bytes, W, H, format, transfer, 0, 0};
                memset(to_bytes, 0xA5, sizeof to_bytes);
                EXPECT(CA2_OK, ca2_restyle(model, &from, &map, style, &options, &to, NULL));
                int kept = 1, changed = 0;
                for (size_t i = 0; i < N; i++) {
                    const uint8_t *a = from_bytes + i * pixel, *b = to_bytes + i * pixel;
                    if (labels[i] != 1)
                        kept &= memcmp(a, b, pixel) == 0;
                    else
                        changed |= memcmp(a, b, pixel) != 0;
                    if (channels == 2 || channels == 4) kept &= memcmp(a + pixel - sample, b + pixel - sample, sample) == 0;
                }
                if (!kept || !changed) fprintf(stderr, "format %#x, transfer %u\n", (unsigned)format, (unsigned)transfer);
                CHECK(kept && changed);
                for (size_t i = N * pixel; i < sizeof to_bytes; i++) kept &= to_bytes[i] == 0xA5;
                CHECK(kept);
            }
}

struct watch {
    float stop_at;
    int calls, calls_after, stopped, fell, answer;
    float last;
    pthread_t thread;
};

static int32_t watch_progress(void *data, float done) {
    struct watch *w = data;
    w->calls++;
    w->calls_after += w->stopped;
    w->fell |= done < w->last || done < 0.0f || done > 1.0f || !pthread_equal(pthread_self(), w->thread);
    w->last = done;
    if (done >= w->stop_at) {
        w->stopped = 1;
        return w->answer;
    }
    return CA2_CONTINUE;
}

static struct watch watching(float stop_at) {
    struct watch w = {0, 0, 0, 0, 0, CA2_CANCEL, 0.0f, 0};
    w.stop_at = stop_at;
    w.thread = pthread_self();
    return w;
}

static void cancelling(void) {
    const float points[] = {0.0f, 0.1f, 0.5f, 1.0f};
    for (size_t i = 0; i < 4; i++) {
        struct watch w = watching(points[i]);
        ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
        options.progress = watch_progress;
        options.progress_data = &w;
        uint8_t doubts[N];
        memset(doubts, 0xA5, sizeof doubts);
        const ca2_image_view_mut doubt = {doubts, W, H, CA2_PIXEL_GRAY_U8, 0, 0, 0};
        options.confidence_map = &doubt;
        EXPECT(CA2_CANCELLED, restyle(&options));
        CHECK(w.stopped && w.calls_after == 0 && !w.fell && untouched());
        for (int k = 0; k < N; k++) CHECK(doubts[k] == 0xA5);
        EXPECT(CA2_OK, restyle(NULL)); /* all works again */
        CHECK(!untouched());
        reset();

        w = watching(points[i]);
        ca2_style *s = style;
        ca2_extract_options extract = {sizeof extract, watch_progress, &w};
        EXPECT(CA2_CANCELLED, ca2_style_extract(model, &content, &map, &extract, &s));
        CHECK(s == NULL && w.calls_after == 0 && !w.fell);

        w = watching(points[i]);
        ca2_synthesize_options synthesize = CA2_SYNTHESIZE_OPTIONS_INIT;
        synthesize.progress = watch_progress;
        synthesize.progress_data = &w;
        EXPECT(CA2_CANCELLED, ca2_synthesize(model, &map, style, &synthesize, &output));
        CHECK(w.calls_after == 0 && !w.fell && untouched());

        w = watching(points[i]);
        ca2_attention_options attention = CA2_ATTENTION_OPTIONS_INIT;
        attention.progress = watch_progress;
        attention.progress_data = &w;
        ca2_image_view_mut maps[3];
        memset(maps, 0, sizeof maps);
        maps[1] = output;
        EXPECT(CA2_CANCELLED, ca2_attention(model, &map, style, &attention, maps, 3));
        CHECK(w.calls_after == 0 && !w.fell && untouched());
    }
    struct watch w = watching(2.0f);
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.progress = watch_progress;
    options.progress_data = &w;
    EXPECT(CA2_OK, restyle(&options));
    CHECK(w.calls >= 2 && w.last == 1.0f && !w.fell);
    reset();
    w = watching(0.0f);
    w.answer = 2; /* neither CONTINUE nor CANCEL */
    EXPECT(CA2_UNSUPPORTED, restyle(&options));
    SAYS("progress answered 2");
    CHECK(untouched() && w.calls_after == 0);
}

/* Inside a callback of a context its own blocking calls are busy; all else works, release too. */
static ca2_context *other;
static char model_path[4096];
static int inside_calls;

static int32_t inside(void *data, float done) {
    (void)data;
    (void)done;
    ca2_model *m;
    ca2_style *s;
    uint32_t index;
    size_t size = 0;
    inside_calls++;
    EXPECT(CA2_BUSY, ca2_restyle(model, &content, &map, style, NULL, &output, NULL));
    EXPECT(CA2_BUSY, ca2_style_extract(model, &content, &map, NULL, &s));
    EXPECT(CA2_BUSY, ca2_synthesize(model, &map, style, NULL, &output));
    ca2_image_view_mut maps[3];
    memset(maps, 0, sizeof maps);
    EXPECT(CA2_BUSY, ca2_attention(model, &map, style, NULL, maps, 3));
    static uint8_t proposed[N];
    const ca2_label_view_mut to = {proposed, W, H, CA2_LABEL_U8, 0, 0, 0};
    EXPECT(CA2_BUSY, ca2_label(model, &content, NULL, &to, NULL));
    uint64_t needed = 0;
    EXPECT(CA2_OK, ca2_label_plan(model, &content, NULL, &to, &needed));
    EXPECT(CA2_BUSY, ca2_model_open(context, model_path, &m));
    EXPECT(CA2_BUSY, ca2_model_open(context, "/nonexistent.safetensors", &m));
    EXPECT(CA2_BUSY, ca2_model_open_memory(context, "xx", 2, &m));
    EXPECT(CA2_OK, ca2_model_find_class(model, "sky", &index));
    EXPECT(CA2_OK, ca2_style_save_memory(style, NULL, &size));
    EXPECT(CA2_OK, ca2_model_open(other, model_path, &m)); /* another context's */
    ca2_model_release(m);
    const ca2_style *both[] = {style, style};
    EXPECT(CA2_OK, ca2_style_mix(both, 2, NULL, &s));
    ca2_style_release(s);
    ca2_style_release(ca2_style_retain(style));
    ca2_model_release(ca2_model_retain(model));
    ca2_context_release(ca2_context_retain(context));
    return CA2_CONTINUE;
}

struct logged {
    int calls, errors;
};

static void log_inside(void *data, uint32_t level, const char *message) {
    struct logged *logged = data;
    logged->calls++;
    logged->errors += level == CA2_LOG_ERROR;
    CHECK(level >= CA2_LOG_ERROR && level <= CA2_LOG_DEBUG && message[0] != '\0');
}

static void callbacks(void) {
    struct logged logged = {0, 0};
    ca2_context_options quiet = CA2_CONTEXT_OPTIONS_INIT;
    quiet.device = CA2_DEVICE_CPU;
    quiet.threads = 1;
    quiet.log = log_inside;
    quiet.log_data = &logged;
    quiet.log_level = CA2_LOG_DEBUG;
    EXPECT(CA2_OK, ca2_context_create(&quiet, &other));
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.progress = inside;
    EXPECT(CA2_OK, restyle(&options));
    CHECK(inside_calls >= 2);
    CHECK(logged.calls > 0 && logged.errors == 0);
    reset();
    ca2_context_release(other);
}

/* Everything released in every order, the style last used after its parents' references are gone; also in a callback. */
static int32_t release_inside(void *data, float done) {
    ca2_style **styles = data;
    (void)done;
    ca2_style_release(styles[0]);
    styles[0] = NULL;
    return CA2_CONTINUE;
}

/* All that the call itself was given: it holds references of its own. */
struct given {
    ca2_context *context;
    ca2_model *model;
    ca2_style *style;
};

static int32_t release_all_inside(void *data, float done) {
    struct given *given = data;
    (void)done;
    ca2_style_release(given->style);
    ca2_model_release(given->model);
    ca2_context_release(given->context);
    *given = (struct given){NULL, NULL, NULL};
    return CA2_CONTINUE;
}

static void release_order(void) {
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (int i = 0; i < 6; i++) {
        ca2_context *c = NULL;
        ca2_model *m = NULL;
        ca2_style *s = NULL;
        ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
        options.device = CA2_DEVICE_CPU;
        options.threads = 1;
        EXPECT(CA2_OK, ca2_context_create(&options, &c));
        EXPECT(CA2_OK, ca2_model_open(c, model_path, &m));
        EXPECT(CA2_OK, ca2_style_extract(m, &content, &map, NULL, &s));
        for (int k = 0; k < 3; k++) {
            if (orders[i][k] == 0) ca2_context_release(c), c = NULL;
            if (orders[i][k] == 1) ca2_model_release(m), m = NULL;
            if (orders[i][k] == 2) ca2_style_release(s), s = NULL;
            size_t size = 0;
            if (s != NULL) EXPECT(CA2_OK, ca2_style_save_memory(s, NULL, &size));
            if (m != NULL && s != NULL) EXPECT(CA2_OK, ca2_restyle(m, &content, &map, s, NULL, &output, NULL));
        }
    }
    ca2_style *styles[1];
    EXPECT(CA2_OK, ca2_style_extract(model, &content, &map, NULL, &styles[0]));
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.progress = release_inside;
    options.progress_data = styles;
    EXPECT(CA2_OK, restyle(&options));
    CHECK(styles[0] == NULL);
    struct given given = {NULL, NULL, NULL};
    ca2_context_options one = CA2_CONTEXT_OPTIONS_INIT;
    one.device = CA2_DEVICE_CPU;
    one.threads = 1;
    EXPECT(CA2_OK, ca2_context_create(&one, &given.context));
    EXPECT(CA2_OK, ca2_model_open(given.context, model_path, &given.model));
    EXPECT(CA2_OK, ca2_style_extract(given.model, &content, &map, NULL, &given.style));
    options.progress = release_all_inside;
    options.progress_data = &given;
    EXPECT(CA2_OK, ca2_restyle(given.model, &content, &map, given.style, &options, &output, NULL));
    CHECK(given.style == NULL);
    reset();
}

/* Two threads on one context: both right, each with its own message. */
static void *in_thread(void *data) {
    uint8_t *result = data;
    const ca2_image_view_mut to = {result, W, H, CA2_PIXEL_RGB_U8, 0, 0, 0};
    for (int i = 0; i < 4; i++) {
        if (ca2_restyle(model, &content, &map, style, NULL, &to, NULL) != CA2_OK) return NULL;
        if (ca2_last_error()[0] != '\0') return NULL;
        if (ca2_restyle(NULL, &content, &map, style, NULL, &to, NULL) != CA2_INVALID_ARGUMENT) return NULL;
        if (strcmp(ca2_last_error(), "model is NULL") != 0) return NULL;
    }
    return data;
}

static void threads(void) {
    static uint8_t results[3][N * 3];
    pthread_t started[2];
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&started[i], NULL, in_thread, results[i]) == 0);
    EXPECT(CA2_OK, restyle(NULL));
    for (int i = 0; i < 2; i++) {
        void *ended = NULL;
        CHECK(pthread_join(started[i], &ended) == 0 && ended == results[i]);
        CHECK(memcmp(results[i], out, sizeof out) == 0);
    }
    reset();
}

static void styles(const char *folder, const ca2_model *strange) {
    char path[4200];
    size_t size = 0, room;
    snprintf(path, sizeof path, "%s/a.style", folder);
    EXPECT(CA2_OK, ca2_style_save_memory(style, NULL, &size));
    CHECK(size > 100);
    uint8_t *bytes = malloc(size), *again = malloc(size);
    if (bytes == NULL || again == NULL) abort();
    room = size - 1;
    memset(bytes, 0xA5, size);
    EXPECT(CA2_INVALID_ARGUMENT, ca2_style_save_memory(style, bytes, &room));
    CHECK(room == size && bytes[0] == 0xA5);
    EXPECT(CA2_OK, ca2_style_save_memory(style, bytes, &room));
    EXPECT(CA2_OK, ca2_style_save(style, path));

    ca2_style *s = NULL, *from_file = NULL;
    EXPECT(CA2_OK, ca2_style_open_memory(model, bytes, size, &s));
    EXPECT(CA2_OK, ca2_style_open(model, path, &from_file));
    room = size;
    EXPECT(CA2_OK, ca2_style_save_memory(from_file, again, &room));
    CHECK(memcmp(bytes, again, size) == 0);
    static uint8_t first[N * 3];
    EXPECT(CA2_OK, restyle(NULL));
    memcpy(first, out, sizeof first);
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, s, NULL, &output, NULL));
    CHECK(memcmp(first, out, sizeof first) == 0);
    reset();

    /* Of another model: the same sizes, other weights. */
    ca2_style *none = s;
    EXPECT(CA2_BAD_DATA, ca2_style_open_memory(strange, bytes, size, &none));
    CHECK(none == NULL);
    SAYS("another model");
    EXPECT(CA2_INVALID_ARGUMENT, ca2_restyle(strange, &content, &map, style, NULL, &output, NULL));
    SAYS("another model");
    ca2_style *foreign = NULL;
    EXPECT(CA2_OK, ca2_style_extract(strange, &content, &map, NULL, &foreign));
    const ca2_style *two[] = {style, foreign};
    EXPECT(CA2_INVALID_ARGUMENT, ca2_style_mix(two, 2, NULL, &none));
    SAYS("styles[1]");

    /* Every cut, and every byte of the header changed: an error, or a style. */
    size_t opened = 0;
    for (size_t cut = 0; cut < size; cut += cut < 600 ? 1 : 97) {
        const ca2_status status = ca2_style_open_memory(model, bytes, cut, &none);
        CHECK(status == CA2_BAD_DATA && none == NULL);
    }
    for (size_t i = 0; i < size; i += i < 600 ? 1 : 97) {
        bytes[i] ^= 0x55;
        const ca2_status status = ca2_style_open_memory(model, bytes, size, &none);
        CHECK(status == CA2_OK || status == CA2_BAD_DATA);
        opened += status == CA2_OK;
        ca2_style_release(none);
        bytes[i] ^= 0x55;
    }
    CHECK(opened < size);
    bytes[7] = 0x7f; /* a header of absurd length */
    EXPECT(CA2_BAD_DATA, ca2_style_open_memory(model, bytes, size, &none));

    /* Mixes. */
    const ca2_style *same[] = {style, s};
    float weights[6] = {1.0f, 2.0f, 3.0f, 4.0f, 0.0f, 1.0f};
    ca2_style *mixed = NULL;
    EXPECT(CA2_OK, ca2_style_mix(same, 2, weights, &mixed));
    uint32_t present = 7;
    EXPECT(CA2_OK, ca2_style_has_class(mixed, 1, &present));
    CHECK(present == 1);
    const float wild[] = {-1.0f, NAN, INFINITY};
    for (size_t i = 0; i < 3; i++) {
        weights[4] = wild[i];
        EXPECT(CA2_INVALID_ARGUMENT, ca2_style_mix(same, 2, weights, &none));
    }
    ca2_style_release(mixed);
    ca2_style_release(foreign);
    ca2_style_release(from_file);
    ca2_style_release(s);
    free(bytes);
    free(again);
}

static void synthesis(const ca2_model *strange) {
    static uint8_t a[N * 3], b[N * 3];
    ca2_synthesize_options options = CA2_SYNTHESIZE_OPTIONS_INIT;
    EXPECT(CA2_OK, ca2_synthesize(model, &map, style, NULL, &output));
    CHECK(!untouched());
    memcpy(a, out, sizeof a);
    /* From noise: the seed decides. */
    options.seed = 1;
    EXPECT(CA2_OK, ca2_synthesize(model, &map, NULL, &options, &output));
    memcpy(b, out, sizeof b);
    CHECK(memcmp(a, b, sizeof a) != 0);
    EXPECT(CA2_OK, ca2_synthesize(model, &map, NULL, &options, &output));
    CHECK(memcmp(out, b, sizeof b) == 0);
    options.seed = 2;
    EXPECT(CA2_OK, ca2_synthesize(model, &map, NULL, &options, &output));
    CHECK(memcmp(out, b, sizeof b) != 0);
    reset();
    EXPECT(CA2_UNSUPPORTED, ca2_synthesize(strange, &map, NULL, &options, &output));
    SAYS("noise mapping");
    CHECK(untouched());
    /* A morph: 0 is the one, 1 the other. */
    static uint8_t flipped[N];
    for (int i = 0; i < N; i++) flipped[i] = labels[N - 1 - i];
    ca2_label_view target = map;
    target.data = flipped;
    options.target_labels = &target;
    EXPECT(CA2_OK, ca2_synthesize(model, &map, style, &options, &output));
    CHECK(memcmp(out, a, sizeof a) == 0);
    options.morph = 1.0f;
    EXPECT(CA2_OK, ca2_synthesize(model, &map, style, &options, &output));
    memcpy(b, out, sizeof b);
    EXPECT(CA2_OK, ca2_synthesize(model, &target, style, NULL, &output));
    int close = 1;
    for (size_t i = 0; i < sizeof b; i++) close &= abs((int)out[i] - (int)b[i]) <= 1; /* one rounding of the mean */
    CHECK(close);
    target.height--;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_synthesize(model, &map, style, &options, &output));
    reset();

    /* Any size of output, a single pixel of labels. */
    ca2_image_view_mut small = output;
    small.width = small.height = 1;
    ca2_label_view one = map;
    one.width = one.height = 1;
    EXPECT(CA2_OK, ca2_synthesize(model, &one, style, NULL, &small));
    CHECK(out[3] == 0xA5);
    reset();

    /* Attention: values from 0 to 1, where a map was asked for. */
    float maps_data[2][N];
    memset(maps_data, 0, sizeof maps_data);
    ca2_image_view_mut maps[3] = {{maps_data[0], W, H, CA2_PIXEL_GRAY_F32, 0, 0, 0},
                                  {NULL, 0, 0, 0, 0, 0, 0},
                                  {maps_data[1], W, H, CA2_PIXEL_GRAY_F32, 0, 0, 0}};
    ca2_attention_options attention = CA2_ATTENTION_OPTIONS_INIT;
    for (attention.stage = 0; attention.stage <= 2; attention.stage++) {
        EXPECT(CA2_OK, ca2_attention(model, &map, style, &attention, maps, 3));
        int range = 1, some = 0;
        for (int i = 0; i < N; i++) {
            range &= maps_data[0][i] >= 0.0f && maps_data[0][i] <= 1.0f;
            some |= maps_data[1][i] > 0.0f;
        }
        CHECK(range && some);
    }
    attention.stage = 3;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_attention(model, &map, style, &attention, maps, 3));
}

/* A label map that the model proposes, in every format, and what cannot be one. */
static void labelling(const char *folder, const ca2_model *strange) {
    uint8_t narrow[N], again[N], colors[N * 3], gaps[H * (W * 2 + 3)];
    uint16_t wide[N];
    uint32_t widest[N];
    ca2_label_view_mut to = {narrow, W, H, CA2_LABEL_U8, 0, 0, 0};
    ca2_label_report report = CA2_LABEL_REPORT_INIT;
    EXPECT(CA2_OK, ca2_label(model, &content, NULL, &to, &report));
    CHECK(report.confidence > 0.0f && report.confidence <= 1.0f && report.struct_size == sizeof report);
    for (int i = 0; i < N; i++) CHECK(narrow[i] < 3);
    char path[4200];
    snprintf(path, sizeof path, "%s/proposed.bin", folder);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(narrow, 1, N, file) == N && fclose(file) == 0);

    to.data = wide, to.format = CA2_LABEL_U16;
    EXPECT(CA2_OK, ca2_label(model, &content, NULL, &to, NULL));
    to.data = widest, to.format = CA2_LABEL_U32;
    EXPECT(CA2_OK, ca2_label(model, &content, NULL, &to, NULL));
    to.data = colors, to.format = CA2_LABEL_RGB_U8;
    EXPECT(CA2_OK, ca2_label(model, &content, NULL, &to, NULL));
    memset(gaps, 0xA5, sizeof gaps);
    const ca2_label_view_mut loose = {gaps + (H - 1) * (W * 2 + 3), W, H, CA2_LABEL_U8, 0, -(W * 2 + 3), 2};
    EXPECT(CA2_OK, ca2_label(model, &content, NULL, &loose, NULL));
    for (int i = 0; i < N; i++) {
        ca2_class_info info = CA2_CLASS_INFO_INIT;
        EXPECT(CA2_OK, ca2_model_get_class(model, narrow[i], &info));
        CHECK(wide[i] == narrow[i] && widest[i] == narrow[i] && memcmp(colors + i * 3, info.color, 3) == 0);
        const uint8_t *there = gaps + (H - 1 - i / W) * (W * 2 + 3) + i % W * 2;
        CHECK(there[0] == narrow[i] && (i % W == W - 1 || there[1] == 0xA5));
    }
    /* What comes out goes in. */
    ca2_label_view from = {colors, W, H, CA2_LABEL_RGB_U8, 0, 0, 0};
    EXPECT(CA2_OK, ca2_restyle(model, &content, &from, style, NULL, &output, NULL));
    reset();
    /* A picture of one pixel, and floats of any value. */
    ca2_image_view one = content;
    one.width = one.height = 1;
    to.data = again, to.format = CA2_LABEL_U8, to.width = to.height = 1;
    EXPECT(CA2_OK, ca2_label(model, &one, NULL, &to, NULL));
    CHECK(again[0] < 3);
    to.width = W, to.height = H;
    float wild[N * 3];
    const float values[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0.5f, -0.0f};
    for (int i = 0; i < N * 3; i++) wild[i] = values[i % 7];
    const ca2_image_view floats = {wild, W, H, CA2_PIXEL_RGB_F32, CA2_TRANSFER_LINEAR, 0, 0};
    EXPECT(CA2_OK, ca2_label(model, &floats, NULL, &to, NULL));
    for (int i = 0; i < N; i++) CHECK(again[i] < 3);

    /* No labeler. */
    memset(again, 0xA5, sizeof again);
    uint64_t needed = 7;
    EXPECT(CA2_UNSUPPORTED, ca2_label(strange, &content, NULL, &to, &report));
    SAYS("has no labeler");
    EXPECT(CA2_UNSUPPORTED, ca2_label_plan(strange, &content, NULL, &to, &needed));
    CHECK(needed == 7);
    /* Wrong sizes, formats, strides, structs; over the picture. */
    const ca2_label_view_mut good = to;
    to.width--;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, NULL, &to, NULL));
    SAYS("same size");
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label_plan(model, &content, NULL, &to, &needed));
    to = good;
    to.height = 0;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, NULL, &to, NULL));
    to = good;
    to.data = NULL;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, NULL, &to, NULL));
    to = good;
    to.format = 5;
    EXPECT(CA2_UNSUPPORTED, ca2_label(model, &content, NULL, &to, NULL));
    to = good;
    to.reserved = 1;
    EXPECT(CA2_UNSUPPORTED, ca2_label(model, &content, NULL, &to, NULL));
    to = good;
    const int64_t bad_strides[] = {1, -1, W - 1, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof bad_strides / sizeof *bad_strides; i++) {
        to.row_stride = bad_strides[i];
        EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, NULL, &to, NULL));
    }
    to = good;
    to.data = pixels + N * 3 - 1;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, NULL, &to, NULL));
    SAYS("overlaps");
    to = good;
    report.struct_size--;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, NULL, &to, &report));
    ca2_label_options options = CA2_LABEL_OPTIONS_INIT;
    options.struct_size++;
    EXPECT(CA2_OK, ca2_label_plan(model, &content, NULL, &to, &needed));
    options.struct_size = 8;
    EXPECT(CA2_INVALID_ARGUMENT, ca2_label(model, &content, &options, &to, NULL));
    options.struct_size = sizeof options;
    /* Stopped at any point. */
    const float points[] = {0.0f, 0.1f, 0.5f, 1.0f};
    for (size_t i = 0; i < 4; i++) {
        struct watch w = watching(points[i]);
        options.progress = watch_progress;
        options.progress_data = &w;
        EXPECT(CA2_CANCELLED, ca2_label(model, &content, &options, &to, NULL));
        CHECK(w.stopped && w.calls_after == 0 && !w.fell);
    }
    for (int i = 0; i < N; i++) CHECK(again[i] == 0xA5);
    EXPECT(CA2_OK, ca2_label(model, &content, NULL, &to, NULL));
    CHECK(memcmp(again, narrow, N) == 0);
}

/* What objects say of themselves, and what a result is reported to lack. */
static void information(void) {
    size_t count = 0;
    EXPECT(CA2_OK, ca2_device_count(&count));
    CHECK(count >= 3); /* CPU, and a line for each kind of GPU */
    for (size_t i = 0; i < count; i++) {
        ca2_device_info device = CA2_DEVICE_INFO_INIT;
        EXPECT(CA2_OK, ca2_device_get(i, &device));
        CHECK(i > 0 || (device.device == CA2_DEVICE_CPU && device.unavailable == NULL && device.memory > 0));
        CHECK(device.unavailable == NULL ? device.name[0] != '\0' : device.unavailable[0] != '\0');
    }
    ca2_device_info device = CA2_DEVICE_INFO_INIT;
    EXPECT(CA2_OK, ca2_context_device(context, &device));
    CHECK(device.device == CA2_DEVICE_CPU && device.struct_size == sizeof device);

    ca2_model_info info = CA2_MODEL_INFO_INIT;
    EXPECT(CA2_OK, ca2_model_get_info(model, &info));
    CHECK(strcmp(info.name, "tiny") == 0 && info.class_count == 3 && info.resolution == 16 && info.stage_count == 2 &&
          info.style_width == 4 && info.noise_width == 4 && info.has_labeler == 1);
    ca2_class_info class_info = CA2_CLASS_INFO_INIT;
    EXPECT(CA2_OK, ca2_model_get_class(model, 2, &class_info));
    CHECK(strcmp(class_info.name, "sea") == 0 && class_info.color[2] == 200 && class_info.color[3] == 255);
    CHECK(class_info.group_count == 1 && strcmp(class_info.groups[0], "water") == 0);
    uint32_t index = 7;
    EXPECT(CA2_OK, ca2_model_find_class(model, "sea", &index));
    CHECK(index == 2);
    const char *fingerprint = NULL;
    EXPECT(CA2_OK, ca2_model_fingerprint(model, &fingerprint));
    CHECK(strlen(fingerprint) == 64);

    /* A style without the sea cannot give it. */
    static uint8_t land[N];
    ca2_label_view land_map = map;
    land_map.data = land;
    ca2_style *s = NULL;
    EXPECT(CA2_OK, ca2_style_extract(model, &content, &land_map, NULL, &s));
    uint32_t present = 7;
    EXPECT(CA2_OK, ca2_style_has_class(s, 2, &present));
    CHECK(present == 0);
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, s, NULL, &output, &report));
    CHECK(report.missing_count == 2 && report.notes[2] == CA2_NOTE_MISSING && report.notes[0] == 0);
    const ca2_class_strength sea = {2, 1.0f};
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.classes = &sea;
    options.class_count = 1;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &land_map, style, &options, &output, &report));
    CHECK(report.absent_count == 1 && report.missing_count == 0 && report.notes[2] == CA2_NOTE_ABSENT);
    CHECK(memcmp(out, pixels, sizeof out) == 0);
    /* Strength 0 is the content. */
    options.fields = CA2_RESTYLE_STRENGTH;
    options.class_count = 0;
    reset();
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(memcmp(out, pixels, sizeof out) == 0);
    ca2_style_release(s);
    reset();
}

/* How far to trust a result: for each pixel, each class, over all, and in words. */
static void confidence(void) {
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.confidence == -1.0f && report.class_confidence[0] == -1.0f && report.doubtful == 0);
    CHECK(report.untouched_pixels == 0 && report.untouched_differing == 0 && report.advice[0] == '\0');
    static uint8_t plain[N * 3];
    memcpy(plain, out, sizeof out);

    options.confidence = 1;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(memcmp(plain, out, sizeof out) == 0); /* it is only told */
    CHECK(report.confidence >= 0.0f && report.confidence <= 1.0f);
    for (int i = 0; i < 256; i++)
        CHECK(i < 3 ? report.class_confidence[i] >= 0.0f && report.class_confidence[i] <= 1.0f
                    : report.class_confidence[i] == -1.0f);
    /* The network's weights are noise. */
    CHECK(report.confidence < 0.42f && report.doubtful == 1 && report.doubtful_count == 0);
    CHECK(strstr(report.advice, "does not know pictures like this") != NULL);

    /* A map of each form, upside down and with gaps: the same figures. */
    float figures[N], loose[H * 2 * W + 5];
    uint16_t wide[N * 2];
    const ca2_image_view_mut tight = {figures, W, H, CA2_PIXEL_GRAY_F32, CA2_TRANSFER_LINEAR, 0, 0};
    options.confidence = 0; /* the map asks for it */
    options.confidence_map = &tight;
    const float all = report.confidence;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.confidence == all);
    double sum = 0.0;
    for (int i = 0; i < N; i++) {
        sum += figures[i];
        CHECK(figures[i] >= 0.0f && figures[i] <= 1.0f);
    }
    CHECK(fabs(sum / N - all) < 0.1 * all);
    for (int i = 0; i < H * 2 * W + 5; i++) loose[i] = -7.0f;
    const int64_t row = 2 * W * (int64_t)sizeof(float);
    const ca2_image_view_mut flipped = {loose + (H - 1) * 2 * W, W, H, CA2_PIXEL_GRAY_F32, 0, -row, 2 * sizeof(float)};
    options.confidence_map = &flipped;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, NULL));
    const ca2_image_view_mut alpha = {wide, W, H, CA2_PIXEL_GRAY_ALPHA_U16, 0, 0, 0};
    options.confidence_map = &alpha;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, NULL));
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) {
            const float *there = loose + (H - 1 - y) * 2 * W + 2 * x;
            CHECK(there[0] == figures[y * W + x] && there[1] == -7.0f);
            CHECK(fabs(wide[(y * W + x) * 2] / 65535.0 - figures[y * W + x]) < 1e-4 && wide[(y * W + x) * 2 + 1] == 65535);
        }

    /* One class alone: all else is compared with the content. Nothing to do: nothing is known. */
    const ca2_class_strength sea = {2, 1.0f};
    options.classes = &sea;
    options.class_count = 1;
    options.confidence_map = &tight;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.untouched_pixels == N - N / 3 && report.untouched_differing == 0);
    options.fields = CA2_RESTYLE_STRENGTH;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.untouched_pixels == N && report.confidence == -1.0f && report.window_side == 0);
    for (int i = 0; i < N; i++) CHECK(figures[i] == 0.0f);

    /* The statistics method has none. */
    options.fields = 0;
    options.confidence_map = NULL;
    options.confidence = 1;
    options.method = CA2_METHOD_STATISTICS;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.confidence == -1.0f && report.doubtful == 0 && report.window_side > 0);

    /* What a class lacks is said with its name. */
    static uint8_t land[N];
    ca2_label_view land_map = map;
    land_map.data = land;
    ca2_style *s = NULL;
    EXPECT(CA2_OK, ca2_style_extract(model, &content, &land_map, NULL, &s));
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, s, NULL, &output, &report));
    CHECK(strstr(report.advice, "as it lacks them: land, sea") != NULL);
    CHECK(strchr(report.advice, '\n') == NULL);
    ca2_style_release(s);
    reset();
}

static int32_t stop_at_once(void *data, float done) {
    (void)data;
    (void)done;
    return CA2_CANCEL;
}

/* The content's own style, kept from one call to the next: the same bits, and whatever lies in its place does no harm. */
static void content_style(ca2_model *other) {
    static uint8_t plain[N * 3], darker[N * 3], turned[N];
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.content_style_used == 0);
    memcpy(plain, out, sizeof out);

    ca2_style *own = NULL;
    options.content_style = &own;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(own != NULL && report.content_style_used == 0 && memcmp(out, plain, sizeof out) == 0);
    ca2_style *const first = own;
    reset();
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(own == first && report.content_style_used == 1 && memcmp(out, plain, sizeof out) == 0);

    /* Through bytes, and cut or bent ones are none. */
    size_t size = 0;
    EXPECT(CA2_OK, ca2_style_save_memory(own, NULL, &size));
    CHECK(size > 16 * 16 * 12);
    char *bytes = (char *)malloc(size);
    EXPECT(CA2_OK, ca2_style_save_memory(own, bytes, &size));
    ca2_style *opened = NULL;
    EXPECT(CA2_OK, ca2_style_open_memory(model, bytes, size, &opened));
    options.content_style = &opened;
    reset();
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(report.content_style_used == 1 && memcmp(out, plain, sizeof out) == 0);
    ca2_style *none = NULL;
    EXPECT(CA2_BAD_DATA, ca2_style_open_memory(model, bytes, size - 1, &none));
    EXPECT(CA2_BAD_DATA, ca2_style_open_memory(other, bytes, size, &none));
    int refused = 0;
    for (size_t at = 0; at < size; at += 97) {
        bytes[at] ^= 0x7F;
        const ca2_status status = ca2_style_open_memory(model, bytes, size, &none);
        CHECK(status == CA2_OK || (status == CA2_BAD_DATA && none == NULL));
        refused += status != CA2_OK;
        ca2_style_release(none);
        none = NULL;
        bytes[at] ^= 0x7F;
    }
    CHECK(refused > 0);
    free(bytes);
    ca2_style_release(opened);
    options.content_style = &own;

    /* An older caller has no such field. */
    ca2_restyle_options older = options;
    older.struct_size = offsetof(ca2_restyle_options, content_style);
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &older, &output, &report));
    CHECK(own == first && report.content_style_used == 0 && memcmp(out, plain, sizeof out) == 0);

    /* A call that fails, is stopped, has nothing to do or does not encode leaves it. */
    options.coupling = 2.0f;
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&options));
    options.coupling = 0.0f;
    options.progress = stop_at_once;
    EXPECT(CA2_CANCELLED, restyle(&options));
    options.progress = NULL;
    options.fields = CA2_RESTYLE_STRENGTH;
    EXPECT(CA2_OK, restyle(&options));
    options.fields = 0;
    options.method = CA2_METHOD_STATISTICS;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    CHECK(own == first && report.content_style_used == 0);
    options.method = CA2_METHOD_NETWORK;
    options.content_style = (ca2_style **)((uintptr_t)&own + 1);
    reset();
    EXPECT(CA2_INVALID_ARGUMENT, restyle(&options));
    SAYS("content_style");
    CHECK(untouched());
    options.content_style = &own;

    /* Another picture, other labels, a reference's style, another model's: made anew, and as without. */
    for (int i = 0; i < N * 3; i++) darker[i] = (uint8_t)(pixels[i] / 2);
    for (int i = 0; i < N; i++) turned[i] = labels[N - 1 - i];
    ca2_image_view pictures[] = {content, content, content, content};
    ca2_label_view maps[] = {map, map, map, map};
    pictures[0].data = darker;
    maps[1].data = turned;
    ca2_style *foreign = NULL;
    EXPECT(CA2_OK, ca2_style_extract(other, &content, &map, NULL, &foreign));
    for (int i = 0; i < 4; i++) {
        if (i >= 2) {
            ca2_style_release(own);
            own = ca2_style_retain(i == 2 ? style : foreign);
        }
        ca2_style *const before_call = own;
        options.content_style = NULL;
        EXPECT(CA2_OK, ca2_restyle(model, &pictures[i], &maps[i], style, &options, &output, &report));
        memcpy(plain, out, sizeof out);
        options.content_style = &own;
        reset();
        EXPECT(CA2_OK, ca2_restyle(model, &pictures[i], &maps[i], style, &options, &output, &report));
        CHECK(own != before_call && report.content_style_used == 0 && memcmp(out, plain, sizeof out) == 0);
        EXPECT(CA2_OK, ca2_restyle(model, &pictures[i], &maps[i], style, &options, &output, &report));
        CHECK(report.content_style_used == 1 && memcmp(out, plain, sizeof out) == 0);
    }
    /* It was released once where it was replaced: this reference is still ours. */
    uint32_t present = 0;
    EXPECT(CA2_OK, ca2_style_has_class(foreign, 0, &present));
    ca2_style_release(foreign);

    /* It is a style like any other. */
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, own, &options, &output, &report));
    CHECK(report.content_style_used == 1 && report.missing_count == 0);
    ca2_style_release(own);
    reset();
}

/* The statistics method needs nothing but the style, also one that was saved, opened and mixed. */
static void statistics(void) {
    static uint8_t by_network[N * 3], by_statistics[N * 3];
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    EXPECT(CA2_OK, restyle(&options));
    memcpy(by_network, out, sizeof out);
    options.method = CA2_METHOD_STATISTICS;
    EXPECT(CA2_OK, restyle(&options));
    memcpy(by_statistics, out, sizeof out);
    CHECK(memcmp(by_network, by_statistics, sizeof out) != 0);
    /* The reference is pure green, and so is the result of strength 1, but for what is kept of the content's grain. */
    long sum[3] = {0, 0, 0};
    for (int i = 0; i < N * 3; i++) sum[i % 3] += out[i];
    CHECK(sum[1] > 200 * N && sum[0] < 60 * N && sum[2] < 60 * N);

    /* Nothing but the content is changed where it was not asked for. */
    const ca2_class_strength sea = {2, 1.0f};
    options.classes = &sea;
    options.class_count = 1;
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    reset();
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, &report));
    int kept = 1, changed = 0;
    for (int i = 0; i < N; i++) {
        const int same = memcmp(out + i * 3, pixels + i * 3, 3) == 0;
        kept &= labels[i] == 2 || same;
        changed |= !same;
    }
    CHECK(kept && changed && report.missing_count == 0);
    options.class_count = 0;
    options.classes = NULL;

    size_t size = 0;
    EXPECT(CA2_OK, ca2_style_save_memory(style, NULL, &size));
    uint8_t *bytes = malloc(size);
    if (bytes == NULL) abort();
    EXPECT(CA2_OK, ca2_style_save_memory(style, bytes, &size));
    ca2_style *opened = NULL, *mixed = NULL;
    EXPECT(CA2_OK, ca2_style_open_memory(model, bytes, size, &opened));
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, opened, &options, &output, NULL));
    CHECK(memcmp(out, by_statistics, sizeof out) == 0);
    const ca2_style *both[] = {style, opened};
    const float first_alone[] = {1.0f, 1.0f, 1.0f, 0.0f, 0.0f, 0.0f};
    EXPECT(CA2_OK, ca2_style_mix(both, 2, first_alone, &mixed));
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, mixed, &options, &output, NULL));
    CHECK(memcmp(out, by_statistics, sizeof out) == 0);
    ca2_style_release(mixed);
    ca2_style_release(opened);
    free(bytes);

    /* It needs less memory than the network does, and stops like it. */
    uint64_t without = 0, with = 0;
    EXPECT(CA2_OK, ca2_restyle_plan(model, &content, &map, style, &options, 0, &without));
    options.method = CA2_METHOD_NETWORK;
    EXPECT(CA2_OK, ca2_restyle_plan(model, &content, &map, style, &options, 0, &with));
    CHECK(without < with);
    options.method = CA2_METHOD_STATISTICS;
    reset();
    struct watch w = watching(0.5f);
    options.progress = watch_progress;
    options.progress_data = &w;
    EXPECT(CA2_CANCELLED, restyle(&options));
    CHECK(w.stopped && w.calls_after == 0 && untouched());
}

/* What a context in f32 kept of the content is not used in bf16, `m`: the output has the same bits as without it. */
static void content_in_both(const ca2_model *m) {
    static uint8_t without[N * 3];
    ca2_style *kept = NULL;
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    EXPECT(CA2_OK, ca2_restyle(m, &content, &map, style, &options, &output, NULL));
    memcpy(without, out, sizeof out);
    options.content_style = &kept;
    EXPECT(CA2_OK, ca2_restyle(model, &content, &map, style, &options, &output, NULL));
    reset();
    EXPECT(CA2_OK, ca2_restyle(m, &content, &map, style, &options, &output, &report));
    CHECK(report.content_style_used == 0 && memcmp(out, without, sizeof out) == 0);
    EXPECT(CA2_OK, ca2_restyle(m, &content, &map, style, &options, &output, &report));
    CHECK(report.content_style_used == 1 && memcmp(out, without, sizeof out) == 0);
    ca2_style_release(kept);
    reset();
}

/* Whether the CPU multiplies bfloat16, by the compiler's own word. */
static int cpu_has_bf16(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
    return 0;
#endif
}

/* Pictures in bf16 are near those in f32 without being them; what a device does not have is refused by name. */
static void precision(void) {
    static float exact[N * 3], rounded[N * 3], repeated[N * 3];
    float *const pictures[] = {exact, rounded};
    const uint32_t codes[] = {CA2_PRECISION_F32, CA2_PRECISION_BF16};
    ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
    options.device = CA2_DEVICE_CPU;
    options.threads = 1;
    ca2_context *c = NULL;
    ca2_model *m = NULL;
    for (int i = 0; i < 2; i++) {
        options.precision = codes[i];
        if (codes[i] == CA2_PRECISION_BF16 && !cpu_has_bf16()) {
            EXPECT(CA2_UNSUPPORTED, ca2_context_create(&options, &c));
            SAYS("precision bf16: this CPU, without AVX-512 BF16, computes in f32 alone");
            CHECK(c == NULL);
            fputs("skipped: this CPU has no AVX-512 BF16\n", stderr);
            break;
        }
        EXPECT(CA2_OK, ca2_context_create(&options, &c));
        EXPECT(CA2_OK, ca2_model_open(c, model_path, &m));
        const ca2_image_view_mut to = {pictures[i], W, H, CA2_PIXEL_RGB_F32, CA2_TRANSFER_SRGB, 0, 0};
        EXPECT(CA2_OK, ca2_synthesize(m, &map, style, NULL, &to));
        if (i == 1) {
            double squares = 0, most = 0;
            for (int j = 0; j < N * 3; j++) {
                const double off = fabs((double)rounded[j] - exact[j]);
                squares += off * off;
                if (off > most) most = off;
            }
            const double psnr = -10 * log10(squares / (N * 3)); /* of the peak 1; what is asked of bf16 anywhere */
            if (!(psnr >= 40 && psnr < 100)) fprintf(stderr, "bf16: %f dB, at most %f\n", psnr, most);
            CHECK(psnr >= 40 && psnr < 100 && most > 0);
            /* Again the same bits. */
            const ca2_image_view_mut again = {repeated, W, H, CA2_PIXEL_RGB_F32, CA2_TRANSFER_SRGB, 0, 0};
            EXPECT(CA2_OK, ca2_synthesize(m, &map, style, NULL, &again));
            CHECK(memcmp(rounded, repeated, sizeof rounded) == 0);
            content_in_both(m);
        }
        ca2_model_release(m);
        ca2_context_release(c);
        m = NULL;
        c = NULL;
    }
    /* What the model asks for: this one says nothing of bf16. */
    options.precision = CA2_PRECISION_AUTO;
    EXPECT(CA2_OK, ca2_context_create(&options, &c));
    EXPECT(CA2_OK, ca2_model_open(c, model_path, &m));
    const ca2_image_view_mut to = {repeated, W, H, CA2_PIXEL_RGB_F32, CA2_TRANSFER_SRGB, 0, 0};
    EXPECT(CA2_OK, ca2_synthesize(m, &map, style, NULL, &to));
    CHECK(memcmp(exact, repeated, sizeof exact) == 0);
    ca2_model_release(m);
    ca2_context_release(c);
    m = NULL;
    c = NULL;
    const struct { uint32_t code; const char *says; } lacking[] = {
        {CA2_PRECISION_TF32, "precision tf32"}, {CA2_PRECISION_F16, "precision f16"}};
    for (int i = 0; i < 2; i++) {
        options.precision = lacking[i].code;
        EXPECT(CA2_UNSUPPORTED, ca2_context_create(&options, &c));
        SAYS(lacking[i].says);
        SAYS(cpu_has_bf16() ? "the CPU computes in f32 and bf16 alone" : "computes in f32 alone");
        CHECK(c == NULL);
    }
}

/* A limit is planned before anything runs: what the plan says is enough, a byte less is not. */
static void memory(void) {
    uint64_t needed = 0, in_place = 0;
    EXPECT(CA2_OK, ca2_restyle_plan(model, &content, &map, style, NULL, 0, &needed));
    EXPECT(CA2_OK, ca2_restyle_plan(model, &content, &map, style, NULL, 1, &in_place));
    CHECK(needed > 0 && in_place == needed + sizeof pixels);
    for (uint64_t less = 0; less <= 1; less++) {
        ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
        options.device = CA2_DEVICE_CPU;
        options.threads = 2; /* as those of the context that was asked: each has buffers of its own */
        options.memory_limit = needed - less;
        ca2_context *c = NULL;
        ca2_model *m = NULL;
        EXPECT(CA2_OK, ca2_context_create(&options, &c));
        EXPECT(CA2_OK, ca2_model_open(c, model_path, &m));
        const ca2_status status = ca2_restyle(m, &content, &map, style, NULL, &output, NULL);
        CHECK(status == (less == 1 ? CA2_MEMORY_LIMIT : CA2_OK) && untouched() == (less == 1));
        reset();
        ca2_model_release(m);
        ca2_context_release(c);
        options.memory_limit = 1000;
        EXPECT(CA2_OK, ca2_context_create(&options, &c));
        EXPECT(CA2_OK, ca2_model_open(c, model_path, &m));
        ca2_style *s = NULL;
        EXPECT(CA2_MEMORY_LIMIT, ca2_style_extract(m, &content, &map, NULL, &s));
        SAYS("1000");
        EXPECT(CA2_MEMORY_LIMIT, ca2_synthesize(m, &map, style, NULL, &output));
        ca2_image_view_mut maps[3];
        memset(maps, 0, sizeof maps);
        EXPECT(CA2_MEMORY_LIMIT, ca2_attention(m, &map, style, NULL, maps, 3));
        ca2_model_release(m);
        ca2_context_release(c);
    }

    /* The other calls: what their plans say is enough, a byte less is not, and the answer names the bytes. */
    float maps_data[2][N];
    const ca2_image_view_mut maps[3] = {{maps_data[0], W, H, CA2_PIXEL_GRAY_F32, 0, 0, 0},
                                        {NULL, 0, 0, 0, 0, 0, 0},
                                        {maps_data[1], W, H, CA2_PIXEL_GRAY_F32, 0, 0, 0}};
    static uint8_t flipped[N];
    ca2_label_view target = map;
    target.data = flipped;
    ca2_synthesize_options morph = CA2_SYNTHESIZE_OPTIONS_INIT;
    morph.target_labels = &target;
    uint8_t proposed[N];
    const ca2_label_view_mut to = {proposed, W, H, CA2_LABEL_U8, 0, 0, 0};
    for (int call = 0; call < 4; call++)
        for (uint64_t less = 0; less <= 1; less++) {
            needed = 0;
            if (call == 0) EXPECT(CA2_OK, ca2_style_extract_plan(model, &content, &map, NULL, &needed));
            if (call == 1) EXPECT(CA2_OK, ca2_synthesize_plan(model, &map, &morph, &output, &needed));
            if (call == 2) EXPECT(CA2_OK, ca2_attention_plan(model, &map, maps, 3, &needed));
            if (call == 3) EXPECT(CA2_OK, ca2_label_plan(model, &content, NULL, &to, &needed));
            CHECK(needed > N);
            ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
            options.device = CA2_DEVICE_CPU;
            options.threads = 2;
            options.memory_limit = needed - less;
            ca2_context *c = NULL;
            ca2_model *m = NULL;
            ca2_style *s = NULL;
            EXPECT(CA2_OK, ca2_context_create(&options, &c));
            EXPECT(CA2_OK, ca2_model_open(c, model_path, &m));
            const ca2_status expected = less == 1 ? CA2_MEMORY_LIMIT : CA2_OK;
            if (call == 0) EXPECT(expected, ca2_style_extract(m, &content, &map, NULL, &s));
            if (call == 1) EXPECT(expected, ca2_synthesize(m, &map, style, &morph, &output));
            if (call == 2) EXPECT(expected, ca2_attention(m, &map, style, NULL, maps, 3));
            if (call == 3) EXPECT(expected, ca2_label(m, &content, NULL, &to, NULL));
            char number[64];
            snprintf(number, sizeof number, "needs %llu bytes", (unsigned long long)needed);
            if (less == 1) SAYS(number);
            if (less == 1) CHECK(untouched());
            reset();
            ca2_style_release(s);
            ca2_model_release(m);
            ca2_context_release(c);
        }
    CHECK(untouched());
}

/* Threads of this process. */
static int process_threads(void) {
    int threads = -1;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");
    if (file == NULL) return -1;
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Threads: %d", &threads) == 1) break;
    fclose(file);
    return threads;
}

/* All that the contexts of this program have computed ran on their own threads: none were started beside them. */
static void no_other_threads(int before, int of_contexts) {
    int now = 0;
    /* Threads of released contexts end by themselves. */
    for (int i = 0; i < 100; i++) {
        now = process_threads();
        if (now <= before + of_contexts) break;
        const struct timespec pause = {0, 50 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    if (now > before + of_contexts) fprintf(stderr, "%d threads, %d before\n", now, before);
    CHECK(now <= before + of_contexts);
}

int main(int count, char **arguments) {
    const int threads_before = process_threads();
    if (count != 4) {
        fputs("misuse MODEL OTHER_MODEL FOLDER\n", stderr);
        return 2;
    }
    snprintf(model_path, sizeof model_path, "%s", arguments[1]);
    for (int i = 0; i < N; i++) {
        labels[i] = (uint8_t)((i % W) / 8);
        for (int c = 0; c < 3; c++) pixels[i * 3 + c] = (uint8_t)(i * 7 + c * 40);
    }
    const ca2_image_view c = {pixels, W, H, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    const ca2_image_view_mut o = {out, W, H, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    const ca2_label_view l = {labels, W, H, CA2_LABEL_U8, 0, 0, 0};
    content = c, output = o, map = l;
    reset();

    ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
    options.device = CA2_DEVICE_CPU;
    options.threads = 2;
    ca2_model *strange = NULL;
    EXPECT(CA2_OK, ca2_context_create(&options, &context));
    EXPECT(CA2_OK, ca2_model_open(context, model_path, &model));
    EXPECT(CA2_OK, ca2_model_open(context, arguments[2], &strange));
    static uint8_t reference_pixels[N * 3];
    for (int i = 0; i < N * 3; i++) reference_pixels[i] = (uint8_t)(i % 3 == 1 ? 255 : 0); /* green */
    ca2_image_view reference = content;
    reference.data = reference_pixels;
    EXPECT(CA2_OK, ca2_style_extract(model, &reference, &map, NULL, &style));
    if (failures == 0) {
        nulls(model_path);
        sizes();
        codes();
        views();
        wild_pixels();
        strides();
        formats();
        cancelling();
        callbacks();
        release_order();
        threads();
        styles(arguments[3], strange);
        synthesis(strange);
        labelling(arguments[3], strange);
        information();
        confidence();
        statistics();
        content_style(strange);
        precision();
        memory();
        no_other_threads(threads_before, 2);
    }
    ca2_context_release(context);
    ca2_model_release(strange);
    ca2_style_release(style);
    ca2_model_release(model);
    printf("%d checks, %d failed\n", checks, failures);
    return failures != 0;
}
