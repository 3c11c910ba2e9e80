/* Restyles a picture: the whole job in C99.
 *
 *   restyle [--statistics] CONTENT.pam LABELS.pam REFERENCE.pam REFERENCE_LABELS.pam OUT.pam [MODEL.safetensors [CLASS ...]]
 *
 * Label maps are gray PAM files whose values are class indices. Without a model file ("" is none too) the library's own is
 * used; without classes all are restyled. --statistics moves the colours of classes without the network.
 *
 *   cc -std=c99 restyle.c $(pkg-config --cflags --libs ca2sis) -o restyle */
#include <ca2sis.h>

#include "pam.h"

/* Every call ends up here: says what was wrong, and goes to the end of main, where everything is released. */
#define TRY(call)                                                                        \
    do {                                                                                 \
        const ca2_status status_ = (call);                                               \
        if (status_ != CA2_OK) {                                                         \
            fprintf(stderr, "%s: %s\n", ca2_status_name(status_), ca2_last_error());     \
            goto done;                                                                   \
        }                                                                                \
    } while (0)

/* Called on this thread, 0 to 1; CA2_CANCEL would stop the work. */
static int32_t show_progress(void *data, float done) {
    int *last = (int *)data;
    const int percent = (int)(done * 100.0f);
    if (percent / 10 != *last / 10 || *last < 0) fprintf(stderr, "%3d %%\n", percent);
    *last = percent;
    return CA2_CONTINUE;
}

static void show_log(void *data, uint32_t level, const char *message) {
    (void)data;
    (void)level;
    fprintf(stderr, "ca2sis: %s\n", message);
}

/* A picture of ours as the library sees it: nothing is copied. */
static ca2_image_view view_of(const pam *image) {
    static const uint32_t narrow[] = {CA2_PIXEL_GRAY_U8, CA2_PIXEL_GRAY_ALPHA_U8, CA2_PIXEL_RGB_U8, CA2_PIXEL_RGBA_U8};
    static const uint32_t wide[] = {CA2_PIXEL_GRAY_U16, CA2_PIXEL_GRAY_ALPHA_U16, CA2_PIXEL_RGB_U16, CA2_PIXEL_RGBA_U16};
    ca2_image_view view;
    view.data = image->data;
    view.width = image->width;
    view.height = image->height;
    view.format = (image->maxval > 255 ? wide : narrow)[image->depth - 1];
    view.transfer = CA2_TRANSFER_SRGB;
    view.row_stride = 0; /* tight */
    view.pixel_stride = 0;
    return view;
}

static ca2_label_view labels_of(const pam *image) {
    ca2_label_view view;
    view.data = image->data;
    view.width = image->width;
    view.height = image->height;
    view.format = image->maxval > 255 ? CA2_LABEL_U16 : CA2_LABEL_U8;
    view.reserved = 0;
    view.row_stride = 0;
    view.pixel_stride = 0;
    return view;
}

int main(int count, char **arguments) {
    uint32_t method = CA2_METHOD_NETWORK;
    if (count > 1 && strcmp(arguments[1], "--statistics") == 0) {
        method = CA2_METHOD_STATISTICS;
        arguments++, count--;
    }
    if (count < 6) {
        fputs("restyle [--statistics] CONTENT.pam LABELS.pam REFERENCE.pam REFERENCE_LABELS.pam OUT.pam [MODEL [CLASS ...]]\n", stderr);
        return 2;
    }
    int result = 1, last = -1;
    ca2_context *context = NULL;
    ca2_model *model = NULL;
    ca2_style *style = NULL;
    ca2_class_strength classes[255];
    size_t class_count = 0;
    pam content, labels, reference, reference_labels, output;
    memset(&content, 0, sizeof content);
    labels = reference = reference_labels = output = content;

    if (pam_read(arguments[1], &content) != 0 || pam_read(arguments[2], &labels) != 0 ||
        pam_read(arguments[3], &reference) != 0 || pam_read(arguments[4], &reference_labels) != 0)
        goto done;

    /* A device with its worker; all zero would be a GPU if there is one. */
    ca2_context_options context_options = CA2_CONTEXT_OPTIONS_INIT;
    context_options.device = CA2_DEVICE_CPU;
    context_options.log = show_log;
    TRY(ca2_context_create(&context_options, &context));

    if (count > 6 && arguments[6][0] != '\0') {
        TRY(ca2_model_open(context, arguments[6], &model));
    } else {
        TRY(ca2_model_open_default(context, &model));
    }
    for (int i = 7; i < count && class_count < 255; i++) {
        TRY(ca2_model_find_class(model, arguments[i], &classes[class_count].index));
        classes[class_count++].strength = 1.0f;
    }

    /* How each class of the reference looks. A style can be kept: ca2_style_save(). */
    const ca2_image_view reference_view = view_of(&reference);
    const ca2_label_view reference_labels_view = labels_of(&reference_labels);
    TRY(ca2_style_extract(model, &reference_view, &reference_labels_view, NULL, &style));

    /* The result has the content's size and form; its memory is ours. */
    output = content;
    output.data = (uint8_t *)malloc(pam_bytes(&content));
    if (output.data == NULL) {
        fputs("out of memory\n", stderr);
        goto done;
    }
    const ca2_image_view content_view = view_of(&content);
    const ca2_label_view labels_view = labels_of(&labels);
    const ca2_image_view_mut output_view = {output.data,           content_view.width,    content_view.height,
                                            content_view.format,   content_view.transfer, content_view.row_stride,
                                            content_view.pixel_stride};
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.classes = classes;
    options.class_count = class_count;
    options.method = method;
    options.confidence = 1;
    options.progress = show_progress;
    options.progress_data = &last;
    ca2_restyle_report report = CA2_RESTYLE_REPORT_INIT;
    TRY(ca2_restyle(model, &content_view, &labels_view, style, &options, &output_view, &report));

    /* What a person should know: classes that the reference lacks, a picture that the network does not know well ... */
    if (report.advice[0] != '\0') printf("%s\n", report.advice);
    printf("%llu pixels left alone, %llu of them changed all the same\n", (unsigned long long)report.untouched_pixels,
           (unsigned long long)report.untouched_differing);
    if (pam_write(arguments[5], &output) != 0) goto done;
    printf("%s\n", arguments[5]);
    result = 0;

done: /* In any order; NULL is fine. */
    ca2_context_release(context);
    ca2_model_release(model);
    ca2_style_release(style);
    free(content.data);
    free(labels.data);
    free(reference.data);
    free(reference_labels.data);
    free(output.data);
    return result;
}
