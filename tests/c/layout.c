/* Sizes and offsets of every struct, as the library asserts them on its side; 64-bit machines. */
#include <ca2sis.h>

/* An array of negative length where it is not so. */
#define SAME(name, a, b) typedef char name[(a) == (b) ? 1 : -1]
#define AT(type, field, offset) SAME(type##_##field, offsetof(type, field), offset)
#define SIZE(type, size) SAME(type##_size, sizeof(type), size)

SAME(status_is_32_bits, sizeof(ca2_status), 4);

SIZE(ca2_image_view, 40);
AT(ca2_image_view, data, 0);
AT(ca2_image_view, width, 8);
AT(ca2_image_view, height, 12);
AT(ca2_image_view, format, 16);
AT(ca2_image_view, transfer, 20);
AT(ca2_image_view, row_stride, 24);
AT(ca2_image_view, pixel_stride, 32);
SIZE(ca2_image_view_mut, 40);
AT(ca2_image_view_mut, format, 16);
AT(ca2_image_view_mut, pixel_stride, 32);
SIZE(ca2_label_view, 40);
AT(ca2_label_view, format, 16);
AT(ca2_label_view, row_stride, 24);
SIZE(ca2_label_view_mut, 40);
AT(ca2_label_view_mut, format, 16);
AT(ca2_label_view_mut, row_stride, 24);
SIZE(ca2_class_strength, 8);
AT(ca2_class_strength, strength, 4);

SIZE(ca2_device_info, 40);
AT(ca2_device_info, device, 8);
AT(ca2_device_info, number, 12);
AT(ca2_device_info, memory, 16);
AT(ca2_device_info, name, 24);
AT(ca2_device_info, unavailable, 32);
SIZE(ca2_context_options, 56);
AT(ca2_context_options, device, 8);
AT(ca2_context_options, device_number, 12);
AT(ca2_context_options, threads, 16);
AT(ca2_context_options, log_level, 20);
AT(ca2_context_options, memory_limit, 24);
AT(ca2_context_options, log, 32);
AT(ca2_context_options, log_data, 40);
AT(ca2_context_options, precision, 48);
AT(ca2_context_options, reserved, 52);
SIZE(ca2_model_info, 56);
AT(ca2_model_info, class_count, 32);
AT(ca2_model_info, noise_width, 48);
AT(ca2_model_info, has_labeler, 52);
SIZE(ca2_class_info, 32);
AT(ca2_class_info, group_count, 24);
AT(ca2_class_info, color, 28);
SIZE(ca2_extract_options, 24);
AT(ca2_extract_options, progress, 8);
SIZE(ca2_restyle_options, 104);
AT(ca2_restyle_options, fields, 8);
AT(ca2_restyle_options, target_labels, 16);
AT(ca2_restyle_options, mask, 24);
AT(ca2_restyle_options, classes, 32);
AT(ca2_restyle_options, class_count, 40);
AT(ca2_restyle_options, strength, 48);
AT(ca2_restyle_options, coupling, 52);
AT(ca2_restyle_options, morph, 56);
AT(ca2_restyle_options, method, 60);
AT(ca2_restyle_options, confidence, 64);
AT(ca2_restyle_options, confidence_map, 72);
AT(ca2_restyle_options, progress, 80);
AT(ca2_restyle_options, progress_data, 88);
AT(ca2_restyle_options, content_style, 96);
SIZE(ca2_restyle_report, 2384);
AT(ca2_restyle_report, unseen_count, 16);
AT(ca2_restyle_report, doubtful, 24);
AT(ca2_restyle_report, window_side, 28);
AT(ca2_restyle_report, window_x, 32);
AT(ca2_restyle_report, untouched_pixels, 48);
AT(ca2_restyle_report, confidence, 64);
AT(ca2_restyle_report, class_confidence, 72);
AT(ca2_restyle_report, notes, 1096);
AT(ca2_restyle_report, advice, 1352);
AT(ca2_restyle_report, content_style_used, 2376);
SIZE(ca2_synthesize_options, 48);
AT(ca2_synthesize_options, seed, 8);
AT(ca2_synthesize_options, target_labels, 16);
AT(ca2_synthesize_options, morph, 24);
AT(ca2_synthesize_options, progress, 32);
SIZE(ca2_label_options, 24);
AT(ca2_label_options, progress, 8);
SIZE(ca2_label_report, 16);
AT(ca2_label_report, confidence, 8);
SIZE(ca2_attention_options, 32);
AT(ca2_attention_options, stage, 8);
AT(ca2_attention_options, progress, 16);

int main(void) { return 0; }
