/* ca2sis: restyle photographs class by class. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Made from src/capi by cbindgen; do not edit. To make it again: UPDATE_HEADER=1 cargo test --test capi_header */

#ifndef CA2SIS_H
#define CA2SIS_H

#include <stddef.h>
#include <stdint.h>

/**
 * How far a colour of a painted label map may be from a class's colour, in each channel (of 255).
 */
#define COLOR_LIMIT 24

/**
 * The form of model files that this library writes and reads.
 */
#define FORMAT 1

/**
 * Number of the binary interface this header describes, the major version and the number in the library's SONAME:
 * within one, functions and codes are only ever added.
 */
#define CA2_ABI_VERSION 0

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

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* CA2SIS_H */
