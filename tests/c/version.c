/* A program in C against include/ca2sis.h and the shared library: prints the version and the number of the ABI. */
#include <ca2sis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    const char *version = ca2_version();
    if (version == NULL || strlen(version) == 0) {
        fputs("ca2_version: no text\n", stderr);
        return 1;
    }
    if (ca2_abi_version() != CA2_ABI_VERSION) {
        fprintf(stderr, "the library's ABI is %" PRIu32 ", the header's %d\n", ca2_abi_version(), CA2_ABI_VERSION);
        return 1;
    }
    printf("%s %" PRIu32 "\n", version, ca2_abi_version());
    return 0;
}
