/* A program built with the header of this version, run on the library of today: every function, with the structs and codes
 * of then.
 *
 *   client MODEL FOLDER */
#include <stdio.h>
#include <string.h>

#include "ca2sis.h"

static int failed;
#define CHECK(condition) \
    if (!(condition)) { failed = 1; fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, ca2_last_error()); }

static int32_t go_on(void *data, float done) {
    (void)done;
    ++*(int *)data;
    return CA2_CONTINUE;
}

static void hear(void *data, uint32_t level, const char *message) {
    (void)level;
    (void)message;
    ++*(int *)data;
}

int main(int count, char **arguments) {
    unsigned char pixels[20 * 10 * 3], labels[20 * 10], out[20 * 10 * 3];
    int calls = 0, heard = 0;
    char path[4096];
    if (count != 3) return 2;
    for (int i = 0; i < 200; i++) {
        labels[i] = (unsigned char)(i % 20 / 7);
        for (int c = 0; c < 3; c++) pixels[i * 3 + c] = (unsigned char)(i + c * 50);
    }
    CHECK(ca2_abi_version() == CA2_ABI_VERSION);
    CHECK(ca2_version()[0] != '\0' && strcmp(ca2_status_name(CA2_OK), "CA2_OK") == 0);
    size_t devices = 0;
    ca2_device_info device = CA2_DEVICE_INFO_INIT;
    CHECK(ca2_device_count(&devices) == CA2_OK && devices > 0);
    CHECK(ca2_device_get(0, &device) == CA2_OK && device.device == CA2_DEVICE_CPU);

    ca2_context_options context_options = CA2_CONTEXT_OPTIONS_INIT;
    context_options.device = CA2_DEVICE_CPU;
    context_options.threads = 1;
    context_options.precision = CA2_PRECISION_F32;
    context_options.log = hear;
    context_options.log_data = &heard;
    ca2_context *context = NULL;
    CHECK(ca2_context_create(&context_options, &context) == CA2_OK && heard > 0);
    CHECK(ca2_context_device(context, &device) == CA2_OK && device.name[0] != '\0');

    ca2_model *model = NULL;
    CHECK(ca2_model_open(context, arguments[1], &model) == CA2_OK);
    ca2_model_info info = CA2_MODEL_INFO_INIT;
    CHECK(ca2_model_get_info(model, &info) == CA2_OK && info.class_count == 3);
    ca2_class_info class_info = CA2_CLASS_INFO_INIT;
    uint32_t index = 0, present = 0;
    CHECK(ca2_model_get_class(model, 2, &class_info) == CA2_OK && strcmp(class_info.name, "sea") == 0);
    CHECK(ca2_model_find_class(model, "sea", &index) == CA2_OK && index == 2);
    const char *fingerprint = NULL;
    CHECK(ca2_model_fingerprint(model, &fingerprint) == CA2_OK && strlen(fingerprint) == 64);

    const ca2_image_view content = {pixels, 20, 10, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    const ca2_label_view map = {labels, 20, 10, CA2_LABEL_U8, 0, 0, 0};
    const ca2_image_view_mut output = {out, 20, 10, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    ca2_extract_options extract = CA2_EXTRACT_OPTIONS_INIT;
    extract.progress = go_on;
    extract.progress_data = &calls;
    ca2_style *style = NULL, *mixed = NULL, *opened = NULL;
    CHECK(ca2_style_extract(model, &content, &map, &extract, &style) == CA2_OK && calls >= 2);
    const ca2_style *parts[] = {style, style};
    CHECK(ca2_style_mix(parts, 2, NULL, &mixed) == CA2_OK);
    CHECK(ca2_style_has_class(mixed, 1, &present) == CA2_OK && present == 1);
    size_t size = 0;
    CHECK(ca2_style_save_memory(style, NULL, &size) == CA2_OK && size > 0);
    snprintf(path, sizeof path, "%s/abi.style", arguments[2]);
    CHECK(ca2_style_save(style, path) == CA2_OK && ca2_style_open(model, path, &opened) == CA2_OK);

    ca2_class_strength classes[] = {{1, 0.5f}};
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.classes = classes;
    options.class_count = 1;
    options.fields = CA2_RESTYLE_STRENGTH;
    options.strength = 0.5f;
    options.coupling = 0.25f;
    options.progress = go_on;
    options.progress_data = &calls;
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    uint64_t needed = 0;
    CHECK(ca2_restyle_plan(model, &content, &map, opened, &options, 0, &needed) == CA2_OK && needed > 0);
    CHECK(ca2_restyle(model, &content, &map, opened, &options, &output, &report) == CA2_OK);
    CHECK(report.advice[sizeof report.advice - 1] == '\0' && report.untouched_differing == 0);
    options.confidence = 1;
    CHECK(ca2_restyle(model, &content, &map, opened, &options, &output, &report) == CA2_OK && report.confidence >= 0.0f);
    ca2_style *own = NULL;
    options.content_style = &own;
    CHECK(ca2_restyle(model, &content, &map, opened, &options, &output, &report) == CA2_OK && own != NULL);
    CHECK(ca2_restyle(model, &content, &map, opened, &options, &output, &report) == CA2_OK && report.content_style_used == 1);
    ca2_style_release(own);
    options.content_style = NULL;
    options.method = CA2_METHOD_STATISTICS;
    CHECK(ca2_restyle(model, &content, &map, mixed, &options, &output, &report) == CA2_OK);
    ca2_synthesize_options synthesize = CA2_SYNTHESIZE_OPTIONS_INIT;
    synthesize.target_labels = &map;
    synthesize.morph = 0.5f;
    CHECK(ca2_synthesize(model, &map, style, &synthesize, &output) == CA2_OK);
    CHECK(ca2_synthesize_plan(model, &map, &synthesize, &output, &needed) == CA2_OK);
    CHECK(ca2_style_extract_plan(model, &content, &map, &extract, &needed) == CA2_OK);
    ca2_attention_options attention = CA2_ATTENTION_OPTIONS_INIT;
    attention.stage = 1;
    const ca2_image_view_mut maps[] = {output, {NULL, 0, 0, 0, 0, 0, 0}, {NULL, 0, 0, 0, 0, 0, 0}};
    CHECK(ca2_attention(model, &map, style, &attention, maps, 3) == CA2_OK);
    const ca2_label_view_mut proposed = {labels, 20, 10, CA2_LABEL_U8, 0, 0, 0};
    ca2_label_options labelling = CA2_LABEL_OPTIONS_INIT;
    labelling.progress = go_on;
    labelling.progress_data = &calls;
    ca2_label_report told = CA2_LABEL_REPORT_INIT;
    CHECK(ca2_label_plan(model, &content, &labelling, &proposed, &needed) == CA2_OK && needed > 0);
    CHECK(ca2_label(model, &content, &labelling, &proposed, &told) == CA2_OK && told.confidence > 0.0f);
    CHECK(ca2_attention_plan(model, &map, maps, 3, &needed) == CA2_OK && needed > 0);

    CHECK(ca2_restyle(NULL, NULL, NULL, NULL, NULL, NULL, NULL) == CA2_INVALID_ARGUMENT);
    ca2_context_release(ca2_context_retain(context));
    ca2_model_release(ca2_model_retain(model));
    ca2_style_release(ca2_style_retain(style));
    ca2_context_release(context);
    ca2_model_release(model);
    ca2_style_release(mixed);
    ca2_style_release(opened);
    ca2_style_release(style);
    if (!failed) puts("well");
    return failed;
}
