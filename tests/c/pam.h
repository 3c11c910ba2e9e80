/* Reading and writing PAM, the simplest picture format that knows an alpha channel and 16 bits: a text header, then the
 * samples row by row from the top, those of 16 bits with the high byte first. GIMP, ImageMagick and ffmpeg read and write it. */
#ifndef PAM_H
#define PAM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint32_t width, height, depth, maxval; /* depth: samples of a pixel; maxval: 255 or 65535 */
    uint8_t *data;                         /* to be freed; 16-bit samples in the machine's byte order */
} pam;

/* Whether the machine stores the low byte of a number first. */
static inline int pam_little_endian(void) {
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    return first == 1;
}

static inline size_t pam_bytes(const pam *image) {
    return (size_t)image->width * image->height * image->depth * (image->maxval > 255 ? 2u : 1u);
}

/* From the file's byte order to the machine's, and back. */
static inline void pam_swap(pam *image) {
    if (image->maxval > 255 && pam_little_endian()) {
        for (size_t i = 0; i + 1 < pam_bytes(image); i += 2) {
            const uint8_t high = image->data[i];
            image->data[i] = image->data[i + 1];
            image->data[i + 1] = high;
        }
    }
}

/* 0 when the picture is read, else -1 with a message on stderr. */
static inline int pam_read(const char *path, pam *image) {
    char line[256], key[16];
    FILE *file = fopen(path, "rb");
    memset(image, 0, sizeof *image);
    if (file == NULL) {
        perror(path);
        return -1;
    }
    if (fgets(line, sizeof line, file) == NULL || strcmp(line, "P7\n") != 0) {
        fprintf(stderr, "%s: no PAM file\n", path);
        fclose(file);
        return -1;
    }
    while (fgets(line, sizeof line, file) != NULL && strcmp(line, "ENDHDR\n") != 0) {
        unsigned long value = 0;
        if (sscanf(line, "%15s %lu", key, &value) < 2) continue;
        if (strcmp(key, "WIDTH") == 0) image->width = (uint32_t)value;
        if (strcmp(key, "HEIGHT") == 0) image->height = (uint32_t)value;
        if (strcmp(key, "DEPTH") == 0) image->depth = (uint32_t)value;
        if (strcmp(key, "MAXVAL") == 0) image->maxval = (uint32_t)value;
    }
    const int known = image->width >= 1 && image->width <= 65536 && image->height >= 1 && image->height <= 65536 &&
                      image->depth >= 1 && image->depth <= 4 && (image->maxval == 255 || image->maxval == 65535);
    image->data = known ? (uint8_t *)malloc(pam_bytes(image)) : NULL;
    if (image->data == NULL || fread(image->data, 1, pam_bytes(image), file) != pam_bytes(image)) {
        fprintf(stderr, "%s: cut short, or a form that this program does not know\n", path);
        free(image->data);
        image->data = NULL;
        fclose(file);
        return -1;
    }
    fclose(file);
    pam_swap(image);
    return 0;
}

/* 0 when the picture is written, else -1 with a message on stderr. */
static inline int pam_write(const char *path, pam *image) {
    static const char *const types[] = {"GRAYSCALE", "GRAYSCALE_ALPHA", "RGB", "RGB_ALPHA"};
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    fprintf(file, "P7\nWIDTH %lu\nHEIGHT %lu\nDEPTH %lu\nMAXVAL %lu\nTUPLTYPE %s\nENDHDR\n", (unsigned long)image->width,
            (unsigned long)image->height, (unsigned long)image->depth, (unsigned long)image->maxval,
            types[image->depth - 1]);
    pam_swap(image);
    const int written = fwrite(image->data, 1, pam_bytes(image), file) == pam_bytes(image);
    pam_swap(image);
    if (fclose(file) != 0 || !written) {
        perror(path);
        return -1;
    }
    return 0;
}

#endif
