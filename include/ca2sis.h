/* ca2sis: restyle photographs class by class. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Made from src/capi by cbindgen; do not edit. To make it again: UPDATE_HEADER=1 cargo test --test capi_header
 *
 * Rules that hold for every function here:
 * - A function that can fail returns a ca2_status and, where it is not CA2_OK, has changed nothing but set pointers that it
 *   would have given to NULL; ca2_last_error() says which argument was wrong and why. Nothing is printed.
 * - Objects (ca2_context, ca2_model, ca2_style) are counted: who gets one from a function, or retains it, releases it once.
 *   They never change, so any thread may use them; each keeps alive what it was made with.
 * - Memory given to a function is borrowed until it returns. Texts that come back belong to their object.
 * - Options and info structs begin with struct_size and grow at their end in later versions: begin with their INIT macro,
 *   which makes every field zero, its default. A number whose default is not zero counts only if its bit is set in `fields`,
 *   and must be zero if not.
 * - An unknown code, flag or set byte of a longer struct is CA2_UNSUPPORTED, never ignored.
 * - "Blocks" means that the call waits for earlier work on the same context; inside a callback of that context it returns
 *   CA2_BUSY at once.
 * - CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED and CA2_INTERNAL may come from every function that returns a ca2_status. */

#ifndef CA2SIS_H
#define CA2SIS_H

#include <stddef.h>
#include <stdint.h>

/* The compiler warns where a status is dropped. */
#if defined(__cplusplus) && __cplusplus >= 201703L
#define CA2_MUST_USE [[nodiscard]]
#elif defined(__GNUC__)
#define CA2_MUST_USE __attribute__((warn_unused_result))
#else
#define CA2_MUST_USE
#endif

/* First values of options and info structs: `ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;` */
#define CA2_DEVICE_INFO_INIT {sizeof(ca2_device_info), 0, 0, 0, NULL, NULL}
#define CA2_CONTEXT_OPTIONS_INIT {sizeof(ca2_context_options), 0, 0, 0, 0, 0, NULL, NULL, 0, 0}
#define CA2_MODEL_INFO_INIT {sizeof(ca2_model_info), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0}
#define CA2_CLASS_INFO_INIT {sizeof(ca2_class_info), NULL, NULL, 0, {0, 0, 0, 0}}
#define CA2_EXTRACT_OPTIONS_INIT {sizeof(ca2_extract_options), NULL, NULL}
#define CA2_RESTYLE_OPTIONS_INIT \
    {sizeof(ca2_restyle_options), 0, NULL, NULL, NULL, 0, 0.0f, 0.0f, 0.0f, 0, 0, 0, NULL, NULL, NULL, NULL}
#define CA2_RESTYLE_REPORT_INIT \
    {sizeof(ca2_restyle_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0f, 0, {0.0f}, {0}, {0}, 0, 0}
#define CA2_SYNTHESIZE_OPTIONS_INIT {sizeof(ca2_synthesize_options), 0, NULL, 0.0f, 0, NULL, NULL}
#define CA2_LABEL_OPTIONS_INIT {sizeof(ca2_label_options), NULL, NULL}
#define CA2_LABEL_REPORT_INIT {sizeof(ca2_label_report), 0.0f, 0}
#define CA2_ATTENTION_OPTIONS_INIT {sizeof(ca2_attention_options), 0, 0, NULL, NULL}


/**
 * Number of the binary interface this header describes, the major version and the number in the library's SONAME:
 * within one, functions and codes are only ever added.
 */
#define CA2_ABI_VERSION 0

/**
 * Go on.
 */
#define CA2_CONTINUE 0

/**
 * Stop; the call returns CA2_CANCELLED.
 */
#define CA2_CANCEL 1

/**
 * A call failed; its status and message say the same.
 */
#define CA2_LOG_ERROR 1

/**
 * It works, but perhaps not as was meant.
 */
#define CA2_LOG_WARNING 2

/**
 * What is there once: the device, a model.
 */
#define CA2_LOG_INFO 3

/**
 * Each call with its time, and why a GPU was not chosen.
 */
#define CA2_LOG_DEBUG 4

/**
 * What the environment variable CA2SIS_DEVICE names ("cpu", "cuda:1"), if it is set and opens; else the first GPU that this
 * build can use and that works; else the CPU.
 */
#define CA2_DEVICE_AUTO 0

/**
 * The CPU.
 */
#define CA2_DEVICE_CPU 1

/**
 * An NVIDIA GPU.
 */
#define CA2_DEVICE_CUDA 2

/**
 * An Apple GPU.
 */
#define CA2_DEVICE_METAL 3

/**
 * Every device: 24 bits of mantissa, none are lost. CPUs with AMX take 16 of them when they generate pictures, as the sum of two bfloat16:
 * within 1e-3 of [-1, 1] from the network either way.
 */
#define CA2_PRECISION_F32 0

/**
 * 11 bits, f32's range: CUDA devices, in their tensor cores.
 */
#define CA2_PRECISION_TF32 1

/**
 * 8 bits, f32's range: CPUs with AVX-512 BF16, CUDA and Metal devices.
 */
#define CA2_PRECISION_BF16 2

/**
 * 11 bits, to 65504: CUDA and Metal devices.
 */
#define CA2_PRECISION_F16 3

/**
 * What each model asks for: bf16 where it says that its pictures hold in it and the device has it, but for Intel CPUs without AMX,
 * else f32.
 */
#define CA2_PRECISION_AUTO 4

/**
 * 8-bit samples, 0 to 255. A sample type plus 1 for gray, 2 for gray and alpha, 3 for RGB, 4 for RGB and alpha is a pixel
 * format, as below.
 */
#define CA2_PIXEL_GRAY_U8 17

/**
 * Gray and alpha, 8 bits each.
 */
#define CA2_PIXEL_GRAY_ALPHA_U8 18

/**
 * Red, green, blue, 8 bits each.
 */
#define CA2_PIXEL_RGB_U8 19

/**
 * Red, green, blue, alpha, 8 bits each.
 */
#define CA2_PIXEL_RGBA_U8 20

/**
 * Gray, 16 bits, 0 to 65535, in the machine's byte order as all larger samples.
 */
#define CA2_PIXEL_GRAY_U16 33

/**
 * Gray and alpha, 16 bits each.
 */
#define CA2_PIXEL_GRAY_ALPHA_U16 34

/**
 * Red, green, blue, 16 bits each.
 */
#define CA2_PIXEL_RGB_U16 35

/**
 * Red, green, blue, alpha, 16 bits each.
 */
#define CA2_PIXEL_RGBA_U16 36

/**
 * Gray, IEEE 754 half precision, black at 0.0 and white at 1.0 as for float.
 */
#define CA2_PIXEL_GRAY_F16 49

/**
 * Gray and alpha, half precision.
 */
#define CA2_PIXEL_GRAY_ALPHA_F16 50

/**
 * Red, green, blue, half precision.
 */
#define CA2_PIXEL_RGB_F16 51

/**
 * Red, green, blue, alpha, half precision.
 */
#define CA2_PIXEL_RGBA_F16 52

/**
 * Gray, float, black at 0.0 and white at 1.0; values beyond are kept where nothing is changed.
 */
#define CA2_PIXEL_GRAY_F32 65

/**
 * Gray and alpha, float.
 */
#define CA2_PIXEL_GRAY_ALPHA_F32 66

/**
 * Red, green, blue, float.
 */
#define CA2_PIXEL_RGB_F32 67

/**
 * Red, green, blue, alpha, float.
 */
#define CA2_PIXEL_RGBA_F32 68

/**
 * Display-encoded samples with the transfer function of sRGB (IEC 61966-2-1).
 */
#define CA2_TRANSFER_SRGB 0

/**
 * Samples proportional to light, with the primaries of sRGB.
 */
#define CA2_TRANSFER_LINEAR 1

/**
 * Class indices in 8 bits.
 */
#define CA2_LABEL_U8 1

/**
 * Class indices in 16 bits, in the machine's byte order.
 */
#define CA2_LABEL_U16 2

/**
 * Class indices in 32 bits, in the machine's byte order.
 */
#define CA2_LABEL_U32 3

/**
 * Red, green, blue of 8 bits each: painted in the classes' colours. A colour is read as the class with the nearest one, at
 * most 24 off in every channel.
 */
#define CA2_LABEL_RGB_U8 4

/**
 * `strength` counts.
 */
#define CA2_RESTYLE_STRENGTH 1

/**
 * `morph` counts.
 */
#define CA2_RESTYLE_MORPH 2

/**
 * `method`: the network, in the looks of the style's codes.
 */
#define CA2_METHOD_NETWORK 0

/**
 * `method`: without the network, each class's mean and covariance of colour moved to the reference's, which every style
 * carries. Quick, and true to colour where the network does not know the picture; it moves no light and draws no shapes, so
 * `target_labels` and a `confidence_map` are CA2_INVALID_ARGUMENT, and a confidence that is asked for comes out as -1, unknown.
 */
#define CA2_METHOD_STATISTICS 1

/**
 * In `notes`: to be restyled, but the style lacks the class: it kept its own look, or was drawn without one where the target labels
 * alone show it.
 */
#define CA2_NOTE_MISSING 1

/**
 * In `notes`: asked for in `classes`, but no label map has it.
 */
#define CA2_NOTE_ABSENT 2

/**
 * In `notes`: to be restyled, but with too few pixels for the network to see any: it was left as it is.
 */
#define CA2_NOTE_UNSEEN 4

/**
 * In `notes`: restyled, with a confidence below 0.22 and 1 % of the window or more, in a result that is not `doubtful` as a whole.
 */
#define CA2_NOTE_DOUBTFUL 8

/**
 * A device with the thread that owns it, a memory limit and a log.
 *
 * Immutable and atomically counted; used from any thread. All work on one context runs on its own threads, one call after
 * another in the order in which they came, so the caller's threads keep their CUDA context, their floating-point state and
 * their priorities. Models and styles keep their context alive, so it may be released before them.
 */
typedef struct ca2_context ca2_context;

/**
 * A model file with its network on a context's device.
 *
 * Immutable and atomically counted; used from any thread. It keeps its context alive, and styles keep it.
 */
typedef struct ca2_model ca2_model;

/**
 * How each class of a reference picture looks: as a model codes it, one row of floats a class, and the mean and covariance of
 * its colours, for CA2_METHOD_STATISTICS.
 *
 * Immutable and atomically counted; used from any thread, with any model of the same fingerprint. It keeps the model that
 * it was made with alive.
 */
typedef struct ca2_style ca2_style;

/**
 * What became of a call: one of the codes below. Codes are only ever added, so treat an unknown one as a failure.
 */
typedef int32_t ca2_status;

/**
 * What is known of a device.
 */
typedef struct ca2_device_info {
    /**
     * Size of this struct, as CA2_DEVICE_INFO_INIT sets it.
     */
    size_t struct_size;
    /**
     * CA2_DEVICE_CPU, CA2_DEVICE_CUDA or CA2_DEVICE_METAL.
     */
    uint32_t device;
    /**
     * Its number among those of its kind, from 0.
     */
    uint32_t number;
    /**
     * Its memory in bytes; 0 where that is not known.
     */
    uint64_t memory;
    /**
     * What its maker calls it, UTF-8; empty where it cannot be used.
     */
    const char *name;
    /**
     * NULL for a device that can be used; else why it, or its whole kind, cannot.
     */
    const char *unavailable;
} ca2_device_info;

/**
 * Receives a message of a context: `level` is one of CA2_LOG_*, `message` is UTF-8 in English and good until it returns.
 *
 * Called on a thread that is inside a call of that context, so perhaps on several at once. The rules of ca2_progress_fn
 * hold inside it. NULL: no log.
 */
typedef void (*ca2_log_fn)(void *data, uint32_t level, const char *message);

/**
 * How a context is to be. All zero is the default: a device chosen by itself, all the machine's threads, no memory limit,
 * no log, f32.
 */
typedef struct ca2_context_options {
    /**
     * Size of this struct, as CA2_CONTEXT_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * CA2_DEVICE_*.
     */
    uint32_t device;
    /**
     * Which of its kind, from 0; only with CA2_DEVICE_CUDA and CA2_DEVICE_METAL.
     */
    uint32_t device_number;
    /**
     * Threads that share the work on the CPU, at most 1024; 0 for as many as the environment variable CA2SIS_THREADS says, a
     * number from 1 to 1024 (any other value is overlooked), else for as many as the machine runs at once.
     */
    uint32_t threads;
    /**
     * The most detailed CA2_LOG_* that `log` is told; 0 for CA2_LOG_INFO.
     */
    uint32_t log_level;
    /**
     * Bytes that one call may need beyond its arguments and the loaded models, 0 for no limit. Planned before a call
     * begins: it then fits, by working in smaller parts, or returns CA2_MEMORY_LIMIT. Part of a loaded model is what it keeps on
     * the CPU of the last two styles that it drew in: 0.1 MB each with the model inside, up to 25 MB with networks of the
     * published size.
     */
    uint64_t memory_limit;
    /**
     * Told what happens; may be NULL.
     */
    ca2_log_fn log;
    /**
     * Handed to `log`.
     */
    void *log_data;
    /**
     * CA2_PRECISION_*: what the factors of the network's large products are rounded to when it generates pictures. Less than f32
     * is faster where the network is large, but for bf16 on Intel CPUs that have AVX-512 BF16 without AMX: there it is slower.
     * Pictures are then like f32's to 40 dB (PSNR) and better with the models that were tested. Sums, codes of styles, label maps
     * and attention maps are in f32 always. One that the device does not have is refused; where the CPU stands in for a GPU that
     * failed and does not have it, it is f32. The environment has no say in it.
     */
    uint32_t precision;
    /**
     * Must be 0.
     */
    uint32_t reserved;
} ca2_context_options;

/**
 * What a model is.
 */
typedef struct ca2_model_info {
    /**
     * Size of this struct, as CA2_MODEL_INFO_INIT sets it.
     */
    size_t struct_size;
    /**
     * Its name, UTF-8, as all texts here; they live as long as the model.
     */
    const char *name;
    /**
     * Its version.
     */
    const char *version;
    /**
     * The licence of its weights.
     */
    const char *licence;
    /**
     * How many classes it knows, 1 to 255.
     */
    uint32_t class_count;
    /**
     * Side of the pictures that its network sees and makes, in pixels.
     */
    uint32_t resolution;
    /**
     * Floats of one class's style code.
     */
    uint32_t style_width;
    /**
     * How many stages ca2_attention() can look at.
     */
    uint32_t stage_count;
    /**
     * Width of its noise mapping's input; 0 when it has none and cannot synthesise without a style.
     */
    uint32_t noise_width;
    /**
     * 1 when it can propose label maps for pictures (ca2_label()), else 0.
     */
    uint32_t has_labeler;
} ca2_model_info;

/**
 * A class of a model: one meaning, such as "jacket".
 */
typedef struct ca2_class_info {
    /**
     * Size of this struct, as CA2_CLASS_INFO_INIT sets it.
     */
    size_t struct_size;
    /**
     * Its name, UTF-8, unique in its model; lives as long as the model, as the groups do.
     */
    const char *name;
    /**
     * Broader meanings it belongs to, such as "upper body": `group_count` texts.
     */
    const char *const *groups;
    /**
     * How many groups.
     */
    uint32_t group_count;
    /**
     * Its colour in label maps of CA2_LABEL_RGB_U8: red, green, blue (sRGB), and 255.
     */
    uint8_t color[4];
} ca2_class_info;

/**
 * A picture or mask of the caller's that is read: `width` x `height` pixels, the top left one at `data`.
 *
 * Pixel (x, y) lies at `data` + y * `row_stride` + x * `pixel_stride`, in bytes. Strides may be negative, as for rows stored
 * from the bottom up, where `data` points to the top row, stored last. A stride of 0 means tight: pixels, or rows, follow
 * each other without gaps. Nothing needs to be aligned. Alpha is straight, not premultiplied. A mask is a gray picture: 0
 * keeps the content, white changes it; its transfer is not looked at.
 *
 * Sides are at least 1 and together at most 2^30 pixels. This struct never grows.
 */
typedef struct ca2_image_view {
    /**
     * The top left pixel.
     */
    const void *data;
    /**
     * Pixels in a row.
     */
    uint32_t width;
    /**
     * Rows.
     */
    uint32_t height;
    /**
     * CA2_PIXEL_*.
     */
    uint32_t format;
    /**
     * CA2_TRANSFER_*.
     */
    uint32_t transfer;
    /**
     * Bytes from a pixel to the one below it; 0: tight.
     */
    int64_t row_stride;
    /**
     * Bytes from a pixel to the one on its right; 0: tight.
     */
    int64_t pixel_stride;
} ca2_image_view;

/**
 * Told how much of a call is done, `done` from 0 to 1, never falling. Answers CA2_CONTINUE or CA2_CANCEL.
 *
 * Called on the thread that made the call: with 0 before any work, at least every 50 ms meanwhile, also while the call
 * waits for its turn, and with 1 when all is computed but no output is written yet. After CA2_CANCEL the call stops at its
 * next block of work, does not call this again, leaves its outputs untouched and returns CA2_CANCELLED. Any other answer
 * cancels too, and the call returns CA2_UNSUPPORTED.
 *
 * Inside it, blocking calls on the same context return CA2_BUSY; retaining, releasing and everything that says "never
 * blocks" is allowed. It must return: no longjmp, no exception out of it. NULL: not told.
 */
typedef int32_t (*ca2_progress_fn)(void *data, float done);

/**
 * How to label. All zero is the default.
 */
typedef struct ca2_label_options {
    /**
     * Size of this struct, as CA2_LABEL_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Told how far it is; may be NULL.
     */
    ca2_progress_fn progress;
    /**
     * Handed to `progress`.
     */
    void *progress_data;
} ca2_label_options;

/**
 * A label map of the caller's that is written: as ca2_label_view. Pixels must not overlap each other. All bytes from its first to
 * its last pixel must be the call's own until it returns; those between the pixels are not changed. In CA2_LABEL_RGB_U8 each
 * pixel gets its class's colour. This struct never grows.
 */
typedef struct ca2_label_view_mut {
    /**
     * The top left pixel's class.
     */
    void *data;
    /**
     * Pixels in a row.
     */
    uint32_t width;
    /**
     * Rows.
     */
    uint32_t height;
    /**
     * CA2_LABEL_*.
     */
    uint32_t format;
    /**
     * Always 0.
     */
    uint32_t reserved;
    /**
     * Bytes from a pixel to the one below it; 0: tight.
     */
    int64_t row_stride;
    /**
     * Bytes from a pixel to the one on its right; 0: tight.
     */
    int64_t pixel_stride;
} ca2_label_view_mut;

/**
 * What a proposed label map does not show by itself.
 */
typedef struct ca2_label_report {
    /**
     * Size of this struct, as CA2_LABEL_REPORT_INIT sets it.
     */
    size_t struct_size;
    /**
     * Mean probability of the classes that were chosen, 0 to 1: below about 0.9 the map is worth a look.
     */
    float confidence;
    /**
     * Always 0.
     */
    uint32_t reserved;
} ca2_label_report;

/**
 * A label map of the caller's: one class for each pixel, laid out as in ca2_image_view. This struct never grows.
 */
typedef struct ca2_label_view {
    /**
     * The top left pixel's class.
     */
    const void *data;
    /**
     * Pixels in a row.
     */
    uint32_t width;
    /**
     * Rows.
     */
    uint32_t height;
    /**
     * CA2_LABEL_*.
     */
    uint32_t format;
    /**
     * Always 0.
     */
    uint32_t reserved;
    /**
     * Bytes from a pixel to the one below it; 0: tight.
     */
    int64_t row_stride;
    /**
     * Bytes from a pixel to the one on its right; 0: tight.
     */
    int64_t pixel_stride;
} ca2_label_view;

/**
 * How to extract a style. All zero is the default.
 */
typedef struct ca2_extract_options {
    /**
     * Size of this struct, as CA2_EXTRACT_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Told how far it is; may be NULL.
     */
    ca2_progress_fn progress;
    /**
     * Handed to `progress`.
     */
    void *progress_data;
} ca2_extract_options;

/**
 * A class to restyle.
 */
typedef struct ca2_class_strength {
    /**
     * The class's index.
     */
    uint32_t index;
    /**
     * 0 keeps its own style, 1 gives it the reference's, between in proportion.
     */
    float strength;
} ca2_class_strength;

/**
 * A picture of the caller's that is written: as ca2_image_view.
 *
 * It may be exactly the content (the same `data`, size, format and strides), which is then changed in place; it must not
 * overlap an input in any other way. Pixels must not overlap each other. All bytes from its first to its last pixel must be
 * the call's own until it returns; those between the pixels are not changed. This struct never grows.
 */
typedef struct ca2_image_view_mut {
    /**
     * The top left pixel.
     */
    void *data;
    /**
     * Pixels in a row.
     */
    uint32_t width;
    /**
     * Rows.
     */
    uint32_t height;
    /**
     * CA2_PIXEL_*.
     */
    uint32_t format;
    /**
     * CA2_TRANSFER_*.
     */
    uint32_t transfer;
    /**
     * Bytes from a pixel to the one below it; 0: tight.
     */
    int64_t row_stride;
    /**
     * Bytes from a pixel to the one on its right; 0: tight.
     */
    int64_t pixel_stride;
} ca2_image_view_mut;

/**
 * What to restyle, and how. All zero is the default: all classes, whole, without a mask.
 */
typedef struct ca2_restyle_options {
    /**
     * Size of this struct, as CA2_RESTYLE_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Which of the numbers below count whose default is not zero: CA2_RESTYLE_* or'ed together.
     */
    uint64_t fields;
    /**
     * How the result is to be laid out instead, of the content's size; NULL for as it is.
     */
    const struct ca2_label_view *target_labels;
    /**
     * A gray view of the content's size, 0 to 1: where the result may differ from the content. NULL: the pixels of the
     * classes to restyle.
     */
    const struct ca2_image_view *mask;
    /**
     * Classes to restyle, each at most once, `class_count` of them; NULL for all, each at 1.
     */
    const struct ca2_class_strength *classes;
    /**
     * How many; 0 for all.
     */
    size_t class_count;
    /**
     * Multiplies every class's strength, 0 to 1; at 0 the result is the content. Counts with CA2_RESTYLE_STRENGTH, else 1.
     */
    float strength;
    /**
     * How far a change of the classes that were not asked for comes through, 0 to 1: the network moves them too, by light and
     * cast colours. Above 0, a job without a mask may change the whole picture.
     */
    float coupling;
    /**
     * With `target_labels`, how far the layout goes from `labels` to them, 0 to 1. Counts with CA2_RESTYLE_MORPH, else 1.
     */
    float morph;
    /**
     * CA2_METHOD_*: where the change comes from.
     */
    uint32_t method;
    /**
     * 1 to find out how far the result can be trusted, for the report, in next to no time; 0 not to. The output is the same either
     * way.
     */
    uint32_t confidence;
    /**
     * Always 0.
     */
    uint32_t reserved;
    /**
     * A gray picture of the content's size for the confidence of each pixel, 0 black to 1 white, not a light value whatever its
     * transfer; 0 outside of the report's window, where the network saw nothing. It must not overlap anything else. NULL for
     * none; any asks for `confidence` too.
     */
    const struct ca2_image_view_mut *confidence_map;
    /**
     * Told how far it is; may be NULL. So that the output stays untouched however late it stops the work, the result is then
     * made beside it, at the cost of as many bytes as its pixels.
     */
    ca2_progress_fn progress;
    /**
     * Handed to `progress`.
     */
    void *progress_data;
    /**
     * In and out: where the caller keeps the content's own style from one call to the next; NULL to keep none. `*content_style`
     * is NULL at first, or the caller's reference to what an earlier call put there, or to one that was saved and opened again.
     * Where it is of just the pixels and labels that the network sees of the content now, and of the same model, version and
     * kind of device, the content is neither encoded nor drawn again, which is about half of the work; the output has the same
     * bits either way. Where it is not, whatever style it is, a call that returns CA2_OK releases it and puts a reference to
     * the new one there. Mask, classes, coupling and shapes count only as far as they move the report's window. Other calls, and
     * those by CA2_METHOD_STATISTICS or with nothing to do, leave it as it is. No two calls at once may have one place. As a
     * reference it has no colours for CA2_METHOD_STATISTICS; saved it takes 12 bytes for each of the model's pixels besides.
     */
    struct ca2_style **content_style;
} ca2_restyle_options;

/**
 * What a result does not show by itself.
 */
typedef struct ca2_restyle_report {
    /**
     * Size of this struct, as CA2_RESTYLE_REPORT_INIT sets it.
     */
    size_t struct_size;
    /**
     * How many classes have CA2_NOTE_MISSING.
     */
    uint32_t missing_count;
    /**
     * How many classes have CA2_NOTE_ABSENT.
     */
    uint32_t absent_count;
    /**
     * How many classes have CA2_NOTE_UNSEEN.
     */
    uint32_t unseen_count;
    /**
     * How many classes have CA2_NOTE_DOUBTFUL.
     */
    uint32_t doubtful_count;
    /**
     * 1 when the confidence of the whole is below 0.42: the network does not know pictures like this one, or like the reference,
     * well. Else 0.
     */
    uint32_t doubtful;
    /**
     * Side in pixels of the square of the content that the network saw; 0 when there was nothing to do.
     */
    uint32_t window_side;
    /**
     * Column of that square's upper left pixel; it may reach beyond the content.
     */
    int64_t window_x;
    /**
     * Row of that square's upper left pixel.
     */
    int64_t window_y;
    /**
     * The output's pixels outside the mask, or outside the classes to restyle, compared with the content's byte by byte.
     */
    uint64_t untouched_pixels;
    /**
     * How many of them differ: 0, unless memory was written to from elsewhere meanwhile.
     */
    uint64_t untouched_differing;
    /**
     * How far the result can be trusted, 0 to 1, the mean over the pixels that are restyled; -1 when it was not asked for or there
     * is nothing to go by. A pixel's figure is 1 / (1 + (error / 0.15)^2), of the greater of two errors that the network is known
     * to make: redrawing the content in the pixel's class around it, and redrawing this class of the reference (root mean
     * squares, 0 to 1). 0 where the style lacks a class that is to be restyled.
     */
    float confidence;
    /**
     * Always 0.
     */
    uint32_t reserved;
    /**
     * The confidence of each class by its index; -1 for one that the network did not see.
     */
    float class_confidence[256];
    /**
     * CA2_NOTE_* of each class by its index, or'ed together; 0 when there is nothing to say.
     */
    uint8_t notes[256];
    /**
     * What a person should know before using the result, in English: one sentence a line, UTF-8, ends in a NUL, "..." where it
     * is cut. Empty when there is nothing to say. It says what the numbers above say, with the names of the classes.
     */
    char advice[1024];
    /**
     * 1 when the style in the options' `content_style` was used: nothing of the content was encoded. Else 0.
     */
    uint32_t content_style_used;
    /**
     * Always 0.
     */
    uint32_t reserved_too;
} ca2_restyle_report;

/**
 * How to synthesise. All zero is the default.
 */
typedef struct ca2_synthesize_options {
    /**
     * Size of this struct, as CA2_SYNTHESIZE_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * Seed of the noise, when there is no style: the same seed gives the same look on the same device.
     */
    uint64_t seed;
    /**
     * Another layout of the same size, towards which `morph` moves the shapes; may be NULL.
     */
    const struct ca2_label_view *target_labels;
    /**
     * How far the shapes have moved to `target_labels`: 0 not at all, 1 whole.
     */
    float morph;
    /**
     * 0: the picture is finished, which makes it of the labels' size before it is resampled, its edges where theirs are, and each class
     * nearer to the mean colour that the style's picture showed, by half or more of what the network misses there. 1: the
     * network's picture as it stands.
     */
    uint32_t plain;
    /**
     * Told how far it is; may be NULL.
     */
    ca2_progress_fn progress;
    /**
     * Handed to `progress`.
     */
    void *progress_data;
} ca2_synthesize_options;

/**
 * Which attention to show. All zero is the default: the mean of all stages.
 */
typedef struct ca2_attention_options {
    /**
     * Size of this struct, as CA2_ATTENTION_OPTIONS_INIT sets it.
     */
    size_t struct_size;
    /**
     * 0 for the mean of all stages; s for stage s alone, 1 the coarsest, up to the model's stage_count.
     */
    uint32_t stage;
    /**
     * Always 0.
     */
    uint32_t reserved;
    /**
     * Told how far it is; may be NULL.
     */
    ca2_progress_fn progress;
    /**
     * Handed to `progress`.
     */
    void *progress_data;
} ca2_attention_options;

/**
 * It is done.
 */
#define CA2_OK 0

/**
 * An argument is NULL, out of range, or does not fit the others; ca2_last_error() names it.
 */
#define CA2_INVALID_ARGUMENT 1

/**
 * A code or flag that this version does not know, or something that this model or build cannot do.
 */
#define CA2_UNSUPPORTED 2

/**
 * A file cannot be read or written.
 */
#define CA2_IO 3

/**
 * A model or style is damaged, foreign, of another format version or of another model.
 */
#define CA2_BAD_DATA 4

/**
 * The device is not there, or failed, or its memory ran out.
 */
#define CA2_DEVICE 5

/**
 * It does not fit in the context's memory_limit; ca2_last_error() and the call's ..._plan() function say what it needs.
 */
#define CA2_MEMORY_LIMIT 6

/**
 * A progress callback answered CA2_CANCEL.
 */
#define CA2_CANCELLED 7

/**
 * Called from inside a callback of the same context, which would wait for itself.
 */
#define CA2_BUSY 8

/**
 * A defect of this library; the call did nothing.
 */
#define CA2_INTERNAL 9

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Version of the library that was loaded, such as "0.1.0".
 *
 * Static text, never NULL, not to be freed. Any thread, any time; cannot fail. Since 0.1.
 */
const char *ca2_version(void);

/**
 * CA2_ABI_VERSION of the library that was loaded.
 *
 * A program that loads the library by itself (dlopen) compares it with the header's CA2_ABI_VERSION before it calls
 * anything else. Any thread, any time; cannot fail. Since 0.1.
 */
uint32_t ca2_abi_version(void);

/**
 * The name of a status code, such as "CA2_CANCELLED"; "unknown status" for any other number.
 *
 * Static text, never NULL, not to be freed. Any thread, any time; cannot fail. Since 0.1.
 */
const char *ca2_status_name(ca2_status status);

/**
 * Says what was wrong with the last call on this thread that returned a ca2_status: which argument, its value, and what to
 * do; empty text if that call returned CA2_OK.
 *
 * UTF-8 in English, never NULL, not to be freed; good until the next call of this library on the same thread. Any thread,
 * any time; cannot fail. Since 0.1.
 */
const char *ca2_last_error(void);

/**
 * How many entries ca2_device_get() has: the CPU first, then every GPU, and one entry with the reason for each kind of GPU
 * that cannot be used.
 *
 * Looked up at the first call, which may take a second with a GPU, on a thread of its own; the caller's current CUDA
 * context stays as it is. Any thread, any time. Errors: CA2_INVALID_ARGUMENT if `count` is NULL. Since 0.1.
 *
 * # Safety
 * `count` is NULL or writable.
 */
CA2_MUST_USE
ca2_status ca2_device_count(size_t *count);

/**
 * What is known of entry `index`, from 0 to below the number that ca2_device_count() gives.
 *
 * Its texts live as long as the library. Any thread, any time. Errors: CA2_INVALID_ARGUMENT if `info` is NULL or not
 * initialised, or `index` is too large; `info` is untouched then. Since 0.1.
 *
 * # Safety
 * `info` is NULL or an initialised ca2_device_info.
 */
CA2_MUST_USE ca2_status ca2_device_get(size_t index, struct ca2_device_info *info);

/**
 * Opens a device and starts its worker; gives one reference in `*out`, to be released with ca2_context_release().
 *
 * `options` may be NULL for the default. Any thread; takes up to a second with a GPU. `log` may be called until the context
 * is gone, that is, until it and all models and styles made with it are released. `*out` is NULL on failure.
 * Errors: CA2_DEVICE when the device is not there or this build cannot use it (CA2_DEVICE_AUTO never fails so),
 * CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED for an unknown device, log level or precision, and for a precision that the device does
 * not have, also one chosen by itself. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; `log` and `log_data` may be used from several threads at once.
 */
CA2_MUST_USE
ca2_status ca2_context_create(const struct ca2_context_options *options,
                              struct ca2_context **out);

/**
 * What is known of the device that the context's calls run on: the one that was opened, or the CPU since a GPU chosen by
 * CA2_DEVICE_AUTO has failed in a call. Its texts live as long as the context.
 *
 * Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT; `info` is untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_context_device(const struct ca2_context *context,
                              struct ca2_device_info *info);

/**
 * Adds a reference and gives `context` back, NULL for NULL. Any thread, any time, also in callbacks; never blocks. Since 0.1.
 *
 * # Safety
 * `context` is NULL or a context that the caller holds a reference to.
 */
struct ca2_context *ca2_context_retain(struct ca2_context *context);

/**
 * Gives a reference back; with the last one the context goes, once its models and styles are gone too. NULL: does nothing.
 * Any thread, any time, also in callbacks; never blocks. Since 0.1.
 *
 * # Safety
 * `context` is NULL or a context that the caller holds a reference to, which is the caller's no longer.
 */
void ca2_context_release(struct ca2_context *context);

/**
 * Opens a model file (.safetensors) and puts its network onto the context's device; gives one reference in `*out`, to be
 * released with ca2_model_release().
 *
 * `path` is UTF-8, on Unix any bytes. The file is mapped: it must not be changed in place while the model is in use;
 * replacing it is fine. Any thread; blocks until the context's earlier work is done. `*out` is NULL on failure.
 * Errors: CA2_IO; CA2_BAD_DATA when it is damaged or no model; CA2_DEVICE; CA2_INVALID_ARGUMENT; CA2_BUSY. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_model_open(const struct ca2_context *context,
                          const char *path,
                          struct ca2_model **out);

/**
 * Opens a model file that is in memory, `size` bytes at `data`, which are copied. All else as ca2_model_open(). Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_model_open_memory(const struct ca2_context *context,
                                 const void *data,
                                 size_t size,
                                 struct ca2_model **out);

/**
 * Opens the model inside the library. All else as ca2_model_open(); CA2_BAD_DATA in a library built without one. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_model_open_default(const struct ca2_context *context,
                                  struct ca2_model **out);

/**
 * What a model is.
 *
 * Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT; `info` is untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE ca2_status ca2_model_get_info(const struct ca2_model *model, struct ca2_model_info *info);

/**
 * What class `index` is, from 0 to below class_count.
 *
 * Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT; `info` is untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_model_get_class(const struct ca2_model *model,
                               uint32_t index,
                               struct ca2_class_info *info);

/**
 * The index of the class of that name, exactly as written, in `*index`.
 *
 * Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, also when the model has no such class; `*index` is
 * untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_model_find_class(const struct ca2_model *model,
                                const char *name,
                                uint32_t *index);

/**
 * SHA-256 of the model file in hexadecimal, 64 digits, in `*fingerprint`; it lives as long as the model. Styles carry it.
 *
 * Any thread; the first call reads the whole file, but does not wait for the context. Errors: CA2_INVALID_ARGUMENT.
 * Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_model_fingerprint(const struct ca2_model *model,
                                 const char **fingerprint);

/**
 * Adds a reference and gives `model` back, NULL for NULL. Any thread, any time, also in callbacks; never blocks. Since 0.1.
 *
 * # Safety
 * `model` is NULL or a model that the caller holds a reference to.
 */
struct ca2_model *ca2_model_retain(struct ca2_model *model);

/**
 * Gives a reference back; with the last one the model goes, once its styles are gone too. NULL: does nothing.
 * Any thread, any time, also in callbacks; never blocks. Since 0.1.
 *
 * # Safety
 * `model` is NULL or a model that the caller holds a reference to, which is the caller's no longer.
 */
void ca2_model_release(struct ca2_model *model);

/**
 * Proposes a label map for a picture: the class of each pixel, written to `labels`, which has the picture's size and any of the
 * label formats.
 *
 * `picture` is any of 1 x 1 pixel and up; its alpha is not looked at. The labeler sees it small, and its map is carried to full
 * size along the picture's edges; it is a proposal, to be looked at and corrected. The model needs a labeler (has_labeler in
 * ca2_model_info), else CA2_UNSUPPORTED. `options` and `report` may be NULL. All memory is borrowed for the call; `labels` and
 * `report` are untouched unless it returns CA2_OK, and `labels` must not overlap the picture. Any thread; blocks until the
 * context's earlier work and this are done. Errors: CA2_INVALID_ARGUMENT, also when the sizes differ; CA2_UNSUPPORTED;
 * CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; views tell the truth about their memory.
 */
CA2_MUST_USE
ca2_status ca2_label(const struct ca2_model *model,
                     const struct ca2_image_view *picture,
                     const struct ca2_label_options *options,
                     const struct ca2_label_view_mut *labels,
                     struct ca2_label_report *report);

/**
 * How many bytes ca2_label() with the same arguments would need at most beyond them and the model, in `*needed`: an estimate from
 * above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
 *
 * Pixels are not looked at. Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED, also for a model
 * without a labeler; `*needed` is untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_label_plan(const struct ca2_model *model,
                          const struct ca2_image_view *picture,
                          const struct ca2_label_options *options,
                          const struct ca2_label_view_mut *labels,
                          uint64_t *needed);

/**
 * The style of a reference picture under its label map; gives one reference in `*out`, to be released with
 * ca2_style_release().
 *
 * `reference` is any picture of 1 x 1 pixel and up; `labels` gives each of its pixels a class. Both are borrowed for the
 * call. `options` may be NULL. Any thread; blocks until the context's earlier work and this are done. `*out` is NULL on
 * failure. Errors: CA2_INVALID_ARGUMENT, also when the sizes differ or a label is no class of the model; CA2_UNSUPPORTED;
 * CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; views tell the truth about their memory.
 */
CA2_MUST_USE
ca2_status ca2_style_extract(const struct ca2_model *model,
                             const struct ca2_image_view *reference,
                             const struct ca2_label_view *labels,
                             const struct ca2_extract_options *options,
                             struct ca2_style **out);

/**
 * How many bytes ca2_style_extract() with the same arguments would need at most beyond them and the model, in `*needed`: an
 * estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
 *
 * Pixels are not looked at. Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is
 * untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_style_extract_plan(const struct ca2_model *model,
                                  const struct ca2_image_view *reference,
                                  const struct ca2_label_view *labels,
                                  const struct ca2_extract_options *options,
                                  uint64_t *needed);

/**
 * The mean of several styles of models of one fingerprint, each class weighted by itself; gives one reference in `*out`.
 *
 * `styles` points to `style_count` styles, at least 1. `weights` is NULL to weigh all alike, else `style_count` rows of
 * class_count floats, 0 and above: row s, column c is the weight of class c in style s. A style that lacks a class does not
 * count for it; a class that all lack or that has no weight is absent from the mix. Codes are averaged; the colours, for
 * CA2_METHOD_STATISTICS, become the Wasserstein barycentre of the styles' normal distributions, which lies between them and is
 * no more spread than they are. The mix keeps the first style's model.
 * Any thread, any time; never blocks. `*out` is NULL on failure. Errors: CA2_INVALID_ARGUMENT. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_style_mix(const struct ca2_style *const *styles,
                         size_t style_count,
                         const float *weights,
                         struct ca2_style **out);

/**
 * Whether the style has a class: `*present` is 1 if its reference showed class `index`, else 0.
 *
 * Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, also when there is no such class; `*present` is
 * untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE ca2_status ca2_style_has_class(const struct ca2_style *style, uint32_t index, uint32_t *present);

/**
 * Writes the style as bytes: what ca2_style_save() writes to a file. The same style gives the same bytes.
 *
 * With `buffer` NULL only `*size` is set, to the bytes needed. Else `*size` says how many bytes `buffer` has, and is set to
 * how many were written. Any thread; the first save of a model's styles reads the model file for its fingerprint, but does
 * not wait for the context. Errors: CA2_INVALID_ARGUMENT, also when the buffer is too small: `buffer` is untouched then and
 * `*size` is the bytes needed. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; `buffer` is NULL or has `*size` bytes.
 */
CA2_MUST_USE
ca2_status ca2_style_save_memory(const struct ca2_style *style,
                                 void *buffer,
                                 size_t *size);

/**
 * Writes the style to a file, whole or not at all.
 *
 * `path` is UTF-8, on Unix any bytes. Any thread; does not wait for the context. Errors: CA2_IO, CA2_INVALID_ARGUMENT.
 * Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_style_save(const struct ca2_style *style,
                          const char *path);

/**
 * Reads a style of `model` from `size` bytes at `data`, which ca2_style_save_memory() wrote or a style file holds; gives one
 * reference in `*out`.
 *
 * Size, format version, class count, shape, the model's fingerprint and the values are checked. Any thread; the first time
 * the model file is read for its fingerprint; does not wait for the context. `*out` is NULL on failure.
 * Errors: CA2_BAD_DATA when the bytes are damaged, no style, of another format version or of another model;
 * CA2_INVALID_ARGUMENT. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_style_open_memory(const struct ca2_model *model,
                                 const void *data,
                                 size_t size,
                                 struct ca2_style **out);

/**
 * Reads a style of `model` from a file. `path` is UTF-8, on Unix any bytes. All else as ca2_style_open_memory(); CA2_IO when
 * the file cannot be read. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_style_open(const struct ca2_model *model,
                          const char *path,
                          struct ca2_style **out);

/**
 * Adds a reference and gives `style` back, NULL for NULL. Any thread, any time, also in callbacks; never blocks. Since 0.1.
 *
 * # Safety
 * `style` is NULL or a style that the caller holds a reference to.
 */
struct ca2_style *ca2_style_retain(struct ca2_style *style);

/**
 * Gives a reference back; with the last one the style goes. NULL: does nothing. Any thread, any time, also in callbacks;
 * never blocks. Since 0.1.
 *
 * # Safety
 * `style` is NULL or a style that the caller holds a reference to, which is the caller's no longer.
 */
void ca2_style_release(struct ca2_style *style);

/**
 * Restyles a picture: `content`, under its label map `labels`, in the looks of `style`, written to `output`. `method` in the
 * options says how: by the network, or by the style's colour statistics alone.
 *
 * `output` has the content's size, format and transfer. Where nothing is to change, and in alpha, its samples are the
 * content's bit for bit; infinite and undefined samples stay too. It may be the content itself, exactly (changed in place, at
 * the cost of as many bytes as its pixels), and must not overlap any input otherwise; its rows must not lie in each other.
 * `options` may be NULL; `report` may be NULL. All memory is borrowed for the call; `output`, `report` and a confidence_map are
 * untouched unless it returns CA2_OK, as is `*content_style`. Any thread; blocks until the context's earlier work and this are done.
 * Errors: CA2_INVALID_ARGUMENT, also when sizes differ, a label or class is beyond the model's, a strength or mask value is
 * not 0 to 1, or the style is of another model; CA2_UNSUPPORTED; CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY.
 * Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; views tell the truth about their memory.
 */
CA2_MUST_USE
ca2_status ca2_restyle(const struct ca2_model *model,
                       const struct ca2_image_view *content,
                       const struct ca2_label_view *labels,
                       const struct ca2_style *style,
                       const struct ca2_restyle_options *options,
                       const struct ca2_image_view_mut *output,
                       struct ca2_restyle_report *report);

/**
 * How many bytes ca2_restyle() with the same arguments would need at most beyond them and the model, in `*needed`: an
 * estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
 *
 * `in_place` is 1 if the output is to be the content, else 0. The context's limit does not matter here, and nothing is
 * computed. Any thread, any time; never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is untouched then.
 * Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; views tell the truth about their memory.
 */
CA2_MUST_USE
ca2_status ca2_restyle_plan(const struct ca2_model *model,
                            const struct ca2_image_view *content,
                            const struct ca2_label_view *labels,
                            const struct ca2_style *style,
                            const struct ca2_restyle_options *options,
                            uint32_t in_place,
                            uint64_t *needed);

/**
 * The picture that the network makes of a label map in a style, or out of noise when `style` is NULL, written to `output`.
 *
 * The picture has the map's size when it is finished, else the model's resolution on the map's longer side; it is resampled to
 * `output`'s size, which should have the map's aspect. Alpha of `output` is set to opaque. `style` NULL needs a model with a noise mapping
 * (noise_width above 0), else CA2_UNSUPPORTED. All memory is borrowed for the call; `output` is untouched unless it returns
 * CA2_OK, and must not overlap a label map. `options` may be NULL. Any thread; blocks until the context's earlier work and
 * this are done. Errors: CA2_INVALID_ARGUMENT, also for labels beyond the model's classes and for a style of another model;
 * CA2_UNSUPPORTED; CA2_MEMORY_LIMIT; CA2_DEVICE; CA2_CANCELLED; CA2_BUSY. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; views tell the truth about their memory.
 */
CA2_MUST_USE
ca2_status ca2_synthesize(const struct ca2_model *model,
                          const struct ca2_label_view *labels,
                          const struct ca2_style *style,
                          const struct ca2_synthesize_options *options,
                          const struct ca2_image_view_mut *output);

/**
 * How many bytes ca2_synthesize() with the same arguments would need at most beyond them and the model, in `*needed`: an
 * estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
 *
 * A style makes no difference, so none is asked for; labels and pixels are not looked at. Any thread, any time; never blocks.
 * Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_synthesize_plan(const struct ca2_model *model,
                               const struct ca2_label_view *labels,
                               const struct ca2_synthesize_options *options,
                               const struct ca2_image_view_mut *output,
                               uint64_t *needed);

/**
 * How much each pixel attends to each class while the network makes the picture of `labels` in `style`: the sigmoid of the
 * cross-attention logits averaged over heads, 0 black to 1 white, not a light value whatever the view's transfer.
 *
 * `maps` points to `map_count` views, as many as the model has classes; the map of class i is resampled to the size of
 * maps[i], which should have the label map's aspect. A view whose data is NULL is passed over. Alpha is set to opaque. All
 * memory is borrowed for the call; outputs are untouched unless it returns CA2_OK, and must not overlap each other or the
 * labels. `options` may be NULL. Any thread; blocks until the context's earlier work and this are done.
 * Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED, CA2_MEMORY_LIMIT, CA2_DEVICE, CA2_CANCELLED, CA2_BUSY. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say; views tell the truth about their memory.
 */
CA2_MUST_USE
ca2_status ca2_attention(const struct ca2_model *model,
                         const struct ca2_label_view *labels,
                         const struct ca2_style *style,
                         const struct ca2_attention_options *options,
                         const struct ca2_image_view_mut *maps,
                         size_t map_count);

/**
 * How many bytes ca2_attention() with the same arguments would need at most beyond them and the model, in `*needed`: an
 * estimate from above. It returns CA2_MEMORY_LIMIT when that is more than the context's memory_limit.
 *
 * A style and the stages make no difference, so neither is asked for; labels and pixels are not looked at. Any thread, any time;
 * never blocks. Errors: CA2_INVALID_ARGUMENT, CA2_UNSUPPORTED; `*needed` is untouched then. Since 0.1.
 *
 * # Safety
 * Pointers are NULL or what their types say.
 */
CA2_MUST_USE
ca2_status ca2_attention_plan(const struct ca2_model *model,
                              const struct ca2_label_view *labels,
                              const struct ca2_image_view_mut *maps,
                              size_t map_count,
                              uint64_t *needed);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CA2SIS_H */
