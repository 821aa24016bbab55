package io.bowstring.spark;

import org.apache.arrow.memory.BufferAllocator;
import org.apache.spark.sql.util.ArrowUtils;

/** The connector's part of Arrow's memory in this JVM: what Spark itself holds, or has lost, is told from it. */
final class ArrowMemory {
  private static final BufferAllocator ALL = ArrowUtils.rootAllocator().newChildAllocator("bowstring", 0, Long.MAX_VALUE);

  private ArrowMemory() {}

  /** An allocator for one task's reader or writer, which closes it. */
  static BufferAllocator open(String name) {
    return ALL.newChildAllocator(name, 0, Long.MAX_VALUE);
  }

  /** Bytes that readers and writers hold: for tests that look for leaks. */
  static long held() {
    return ALL.getAllocatedMemory();
  }
}
