package io.bowstring.spark;

/**
 * What went wrong, with a stable code ({@code docs/errors.md} lists all). The text says what was asked, what the limit or state is, and
 * what to do.
 */
public final class BowstringException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final String code;
  private final boolean retryable;

  BowstringException(String code, boolean retryable, String text) {
    super("[" + code + "] " + text);
    this.code = code;
    this.retryable = retryable;
  }

  /** The stable code, for instance {@code stream_not_found}. */
  public String code() {
    return code;
  }

  /** Whether the same may be tried again, perhaps later. */
  public boolean isRetryable() {
    return retryable;
  }
}
