// Restyles a picture: the whole job in C++17, with errors as exceptions and objects that release themselves.
//
//   restyle CONTENT.pam LABELS.pam REFERENCE.pam REFERENCE_LABELS.pam OUT.pam [MODEL.safetensors]
//
//   c++ -std=c++17 restyle.cpp $(pkg-config --cflags --libs ca2sis) -o restyle
#include <ca2sis.h>

#include <array>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "pam.h"

namespace {

void check(ca2_status status) {
    if (status != CA2_OK) throw std::runtime_error(std::string(ca2_status_name(status)) + ": " + ca2_last_error());
}

struct Release {
    void operator()(ca2_context *p) const noexcept { ca2_context_release(p); }
    void operator()(ca2_model *p) const noexcept { ca2_model_release(p); }
    void operator()(ca2_style *p) const noexcept { ca2_style_release(p); }
};
using Context = std::unique_ptr<ca2_context, Release>;
using Model = std::unique_ptr<ca2_model, Release>;
using Style = std::unique_ptr<ca2_style, Release>;

Context open_context() {
    ca2_context_options options = CA2_CONTEXT_OPTIONS_INIT;
    options.device = CA2_DEVICE_CPU;
    ca2_context *context = nullptr;
    check(ca2_context_create(&options, &context));
    return Context(context);
}

Model open_model(const Context &context, const char *path) {
    ca2_model *model = nullptr;
    check(path != nullptr ? ca2_model_open(context.get(), path, &model)
                          : ca2_model_open_default(context.get(), &model));
    return Model(model);
}

// A picture with its memory.
struct Picture {
    std::uint32_t width = 0, height = 0, depth = 0, maxval = 0;
    std::vector<std::uint8_t> data;

    explicit Picture(const char *path) {
        pam image;
        if (pam_read(path, &image) != 0) throw std::runtime_error(std::string(path) + ": not read");
        const std::unique_ptr<std::uint8_t, decltype(&std::free)> owner(image.data, &std::free);
        width = image.width, height = image.height, depth = image.depth, maxval = image.maxval;
        data.assign(image.data, image.data + pam_bytes(&image));
    }

    void write(const char *path) {
        pam image{width, height, depth, maxval, data.data()};
        if (pam_write(path, &image) != 0) throw std::runtime_error(std::string(path) + ": not written");
    }

    std::uint32_t format() const {
        constexpr std::array<std::uint32_t, 8> formats = {
            CA2_PIXEL_GRAY_U8,  CA2_PIXEL_GRAY_ALPHA_U8,  CA2_PIXEL_RGB_U8,  CA2_PIXEL_RGBA_U8,
            CA2_PIXEL_GRAY_U16, CA2_PIXEL_GRAY_ALPHA_U16, CA2_PIXEL_RGB_U16, CA2_PIXEL_RGBA_U16};
        return formats[depth - 1 + (maxval > 255 ? 4 : 0)];
    }
    ca2_image_view view() const { return {data.data(), width, height, format(), CA2_TRANSFER_SRGB, 0, 0}; }
    ca2_image_view_mut view_mut() { return {data.data(), width, height, format(), CA2_TRANSFER_SRGB, 0, 0}; }
    ca2_label_view labels() const {
        return {data.data(), width, height, maxval > 255 ? std::uint32_t{CA2_LABEL_U16} : std::uint32_t{CA2_LABEL_U8}, 0, 0, 0};
    }
};

// Exceptions must not leave a callback: what it does cannot throw.
extern "C" std::int32_t show_progress(void *, float done) {
    std::fprintf(stderr, "%3d %%\n", static_cast<int>(done * 100.0f));
    return CA2_CONTINUE;
}

}  // namespace

int main(int count, char **arguments) try {
    if (count < 6) {
        std::fputs("restyle CONTENT.pam LABELS.pam REFERENCE.pam REFERENCE_LABELS.pam OUT.pam [MODEL]\n", stderr);
        return 2;
    }
    Picture picture(arguments[1]);
    const Picture labels(arguments[2]), reference(arguments[3]), reference_labels(arguments[4]);

    const Context context = open_context();
    const Model model = open_model(context, count > 6 ? arguments[6] : nullptr);

    const ca2_image_view reference_view = reference.view();
    const ca2_label_view reference_labels_view = reference_labels.labels();
    ca2_style *extracted = nullptr;
    check(ca2_style_extract(model.get(), &reference_view, &reference_labels_view, nullptr, &extracted));
    const Style style(extracted);

    // In place: the output is the content itself.
    const ca2_image_view content = picture.view();
    const ca2_image_view_mut output = picture.view_mut();
    const ca2_label_view labels_view = labels.labels();
    ca2_restyle_options options = CA2_RESTYLE_OPTIONS_INIT;
    options.progress = show_progress;
    check(ca2_restyle(model.get(), &content, &labels_view, style.get(), &options, &output, nullptr));

    picture.write(arguments[5]);
    std::printf("%s\n", arguments[5]);
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
}
