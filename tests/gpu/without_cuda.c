/* A host on a machine without CUDA, linked to a library that is built with it: the library says why CUDA cannot be used,
 * chooses the CPU by itself, and restyles. Ends with 0 and prints the reason; any line on stderr is a fault.
 *
 *   without_cuda [WORDS]     WORDS must be in the reason */
#include <ca2sis.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 96

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, ca2_last_error());
    exit(1);
}

#define TRY(call) \
    if ((call) != CA2_OK) fail(#call)

int main(int count, char **arguments) {
    static uint8_t content[SIDE * SIDE * 3], reference[SIDE * SIDE * 3], output[SIDE * SIDE * 3], labels[SIDE * SIDE];
    const char *reason = NULL;
    size_t devices = 0;
    TRY(ca2_device_count(&devices));
    for (size_t i = 0; i < devices; i++) {
        ca2_device_info info = CA2_DEVICE_INFO_INIT;
        TRY(ca2_device_get(i, &info));
        if (info.device == CA2_DEVICE_CUDA) reason = info.unavailable;
    }
    if (reason == NULL || (count > 1 && strstr(reason, arguments[1]) == NULL)) {
        fprintf(stderr, "the reason is: %s\n", reason == NULL ? "none" : reason);
        return 1;
    }

    ca2_context *context = NULL;
    ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
    options.device = CA2_DEVICE_CUDA;
    if (ca2_context_create(&options, &context) != CA2_DEVICE || context != NULL ||
        strstr(ca2_last_error(), reason) == NULL)
        fail("CUDA that was asked for by name");
    options.device = CA2_DEVICE_AUTO;
    TRY(ca2_context_create(&options, &context));
    ca2_device_info info = CA2_DEVICE_INFO_INIT;
    TRY(ca2_context_device(context, &info));
    if (info.device != CA2_DEVICE_CPU) fail("the device chosen by itself is not the CPU");

    ca2_model *model = NULL;
    ca2_style *style = NULL;
    TRY(ca2_model_open_default(context, &model));
    for (int i = 0; i < SIDE * SIDE; i++) {
        labels[i] = (uint8_t)(i / SIDE / 48);
        for (int c = 0; c < 3; c++) {
            content[3 * i + c] = (uint8_t)(60 + i % SIDE + 20 * c);
            reference[3 * i + c] = (uint8_t)(200 - i / SIDE - 40 * c);
        }
    }
    const ca2_image_view seen = {content, SIDE, SIDE, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    const ca2_image_view wanted = {reference, SIDE, SIDE, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    const ca2_image_view_mut made = {output, SIDE, SIDE, CA2_PIXEL_RGB_U8, CA2_TRANSFER_SRGB, 0, 0};
    ca2_label_view map;
    memset(&map, 0, sizeof map);
    map.data = labels;
    map.width = map.height = SIDE;
    map.format = CA2_LABEL_U8;
    TRY(ca2_style_extract(model, &wanted, &map, NULL, &style));
    TRY(ca2_restyle(model, &seen, &map, style, NULL, &made, NULL));
    if (memcmp(output, content, sizeof output) == 0) fail("the picture did not change");
    ca2_style_release(style);
    ca2_model_release(model);
    ca2_context_release(context);
    printf("%s\n", reason);
    return 0;
}
