/** The two ends between a case and its threads: a Node worker or a browser's, whichever the implementation starts. */

export interface Port {
  post(message: unknown): void;
  listen(receive: (message: unknown) => void): void;
}

/** The starter's end. */
export interface ThreadHandle extends Port {
  /** Calls back when the thread ended without being asked to. */
  onFailure(report: (error: Error) => void): void;
  end(): Promise<void>;
}
