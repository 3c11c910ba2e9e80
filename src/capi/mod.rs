//! The C API: the only `extern "C"` of the crate. Its header is `include/ca2sis.h`, which `tests/capi_header.rs`
//! compares with this folder. It does nothing of its own: views and handles in, calls of the public Rust API, statuses out.

mod attention;
mod callback;
mod context;
mod device;
mod guard;
mod handle;
mod image;
mod label;
mod model;
mod restyle;
mod status;
mod style;
mod synthesize;
mod version;

/// The layouts that programs were built with; `tests/c/layout.c` asserts the same on C's side.
#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::offset_of;
    macro_rules! layout {
        ($type:path, $size:literal, $($field:ident $offset:literal),*) => {
            assert!(size_of::<$type>() == $size);
            $(assert!(offset_of!($type, $field) == $offset);)*
        };
    }
    layout!(image::ca2_image_view, 40, data 0, width 8, height 12, format 16, transfer 20, row_stride 24, pixel_stride 32);
    layout!(image::ca2_image_view_mut, 40, data 0, width 8, height 12, format 16, transfer 20, row_stride 24, pixel_stride 32);
    layout!(image::ca2_label_view, 40, data 0, width 8, height 12, format 16, row_stride 24, pixel_stride 32);
    layout!(image::ca2_label_view_mut, 40, data 0, width 8, height 12, format 16, row_stride 24, pixel_stride 32);
    layout!(restyle::ca2_class_strength, 8, index 0, strength 4);
    layout!(device::ca2_device_info, 40, device 8, number 12, memory 16, name 24, unavailable 32);
    layout!(context::ca2_context_options, 56, device 8, device_number 12, threads 16, log_level 20, memory_limit 24, log 32, log_data 40, precision 48, reserved 52);
    layout!(model::ca2_model_info, 56, name 8, version 16, licence 24, class_count 32, noise_width 48, has_labeler 52);
    layout!(model::ca2_class_info, 32, name 8, groups 16, group_count 24, color 28);
    layout!(style::ca2_extract_options, 24, progress 8, progress_data 16);
    layout!(restyle::ca2_restyle_options, 104, fields 8, target_labels 16, mask 24, classes 32, class_count 40, strength 48, coupling 52, morph 56, method 60, confidence 64, confidence_map 72, progress 80, progress_data 88, content_style 96);
    layout!(restyle::ca2_restyle_report, 2384, missing_count 8, unseen_count 16, doubtful 24, window_side 28, window_x 32, untouched_pixels 48, confidence 64, class_confidence 72, notes 1096, advice 1352, content_style_used 2376);
    layout!(synthesize::ca2_synthesize_options, 48, seed 8, target_labels 16, morph 24, progress 32);
    layout!(label::ca2_label_options, 24, progress 8, progress_data 16);
    layout!(label::ca2_label_report, 16, confidence 8);
    layout!(attention::ca2_attention_options, 32, stage 8, progress 16);
};
