# Long enough for a busy machine; a test that passes does not wait for it.
# Much goes wrong here, and is logged: that is shown of tests that fail.
ExUnit.start(assert_receive_timeout: 5_000, capture_log: true)
