begin; select admission_lock(false)
