package io.bowstring.spark;

import org.apache.arrow.vector.ValueVector;
import org.apache.spark.sql.vectorized.ArrowColumnVector;

/**
 * A column whose memory its reader lets go, when the next batch is loaded or at the end. Spark closes columns between batches with
 * whole-stage code generation and never without; a closed struct cannot be loaded again.
 */
class HeldColumn extends ArrowColumnVector {
  HeldColumn(ValueVector vector) {
    super(vector);
  }

  @Override
  public void close() {}

  @Override
  public void closeIfFreeable() {}
}
