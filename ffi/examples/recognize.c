/* Recognises a recording and prints the answer as JSON:
 *   recognize RECORDING
 * Built by: cc recognize.c -I ../include -L DIR -lmaeum_c -lm -lpthread -ldl */

#include <maeum.h>
#include <stdio.h>
#include <stdlib.h>

/* Reads a whole file; the caller frees the bytes. */
static unsigned char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    size_t room = 1 << 16, used = 0;
    unsigned char *bytes = malloc(room);
    while (bytes) {
        used += fread(bytes + used, 1, room - used, file);
        if (used < room) break;
        unsigned char *larger = realloc(bytes, room *= 2);
        if (!larger) free(bytes);
        bytes = larger;
    }
    if (ferror(file)) {
        free(bytes);
        bytes = NULL;
    }
    fclose(file);
    *size = used;
    return bytes;
}

/* Prints and frees a text. */
static void print(FILE *to, maeum_text *text) {
    if (text) fputs(maeum_text_data(text), to);
    maeum_text_free(text);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: recognize RECORDING\n");
        return 2;
    }
    size_t size = 0;
    unsigned char *recording = read_file(arguments[1], &size);
    if (!recording) {
        perror(arguments[1]);
        return 1;
    }
    maeum_recognizer *recognizer = NULL;
    maeum_text *text = NULL;
    maeum_status status = maeum_recognizer_new(NULL, 0, &recognizer, &text);
    if (status == MAEUM_OK) status = maeum_recognize(recognizer, recording, size, NULL, &text);
    if (status == MAEUM_OK) {
        print(stdout, text);
    } else {
        fprintf(stderr, "%s: ", maeum_status_name(status));
        print(stderr, text);
        fputc('\n', stderr);
    }
    maeum_recognizer_free(recognizer);
    free(recording);
    return status == MAEUM_OK ? 0 : 1;
}
