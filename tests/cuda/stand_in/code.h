// Format of the code that the stand-in compiler produces for the stand-in driver.
#pragma once

#define API extern "C" __attribute__((visibility("default")))

// Prefix; the architecture, a newline and the source's name follow.
static const char MARK_OF_CODE[] = "\x7f" "ELF of the stand-in compiler ";
