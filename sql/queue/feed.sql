begin; select admission_lock(true)
